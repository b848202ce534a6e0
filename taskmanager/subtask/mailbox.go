package subtask

import (
	"slices"
	"sync"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Kind is the kind of a checkpoint.
type Kind int

// The kinds of checkpoints.
const (
	Periodic Kind = iota + 1
	// Final: after the barrier the sources emit nothing more.
	Final
	// Drain: the sources end their data first, then as Final.
	Drain
)

// String is the name used in messages.
func (k Kind) String() string {
	switch k {
	case Periodic:
		return "periodic"
	case Final:
		return "final"
	case Drain:
		return "drain"
	default:
		return "unknown"
	}
}

type trigger struct {
	id   ident.CheckpointID
	kind Kind
}

// mail is what has come since the loop last looked.
type mail struct {
	trigger trigger            // the newest; id 0: none
	aborted ident.CheckpointID // 0: none
	// removed are splits to let go of, added new ones, in this order; they stand before the trigger.
	removed, added []manifest.Position
}

// mailbox holds control messages as levels, not as a queue: of triggers the newest counts. So it is bounded and whoever puts something in never waits.
type mailbox struct {
	mu   sync.Mutex
	mail mail
	wake chan struct{}
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

func (m *mailbox) put(change func(*mail)) {
	m.mu.Lock()
	change(&m.mail)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.mail
	m.mail = mail{}
	return got
}

func (m *mail) addTrigger(t trigger) {
	if t.id > m.trigger.id {
		m.trigger = t
	}
}

// addSplits keeps a split once, however often it is repeated before the loop looks.
func (m *mail) addSplits(list []manifest.Position) {
	for _, p := range list {
		if !slices.ContainsFunc(m.added, func(o manifest.Position) bool { return o.Split == p.Split }) {
			m.added = append(m.added, p)
		}
	}
}

// removeSplits takes back what was added and not looked at yet: at another place than this it can only repeat what the
// subtask was given long ago, and would be read from there again.
func (m *mail) removeSplits(list []manifest.Position) {
	for _, p := range list {
		m.added = slices.DeleteFunc(m.added, func(o manifest.Position) bool { return o.Split == p.Split })
		if !slices.Contains(m.removed, p) {
			m.removed = append(m.removed, p)
		}
	}
}

// addAbort keeps the newest: it ends all before it.
func (m *mail) addAbort(id ident.CheckpointID) { m.aborted = max(m.aborted, id) }
