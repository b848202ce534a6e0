package discovery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

const (
	// retryMin and retryMax bound the pause after a listing that failed or that misses a topic; it doubles.
	retryMin, retryMax = time.Second, time.Minute
	// maxDoubts is how many listings in a row must show that a topic is another one.
	maxDoubts = 3
	// maxNamed bounds the topics that a message names.
	maxNamed = 5
)

// Source is a source whose partitions are looked for.
type Source struct {
	Name string
	// Interval is the time from one look to the next; 0: one look each time that an attempt begins to run.
	Interval time.Duration
	// Pattern says that it reads what matches a pattern, so that topics of it may go for good.
	Pattern bool
}

// Status is what is shown.
type Status struct {
	// Waiting are the reasons why something is not read, a line each.
	Waiting []string
	// Found, SetAside and Failures count splits that were added and set aside, and listings that failed, since the start
	// of the machine.
	Found, SetAside, Failures uint64
}

// Machine looks for the partitions of one job over all its attempts.
type Machine struct {
	sources []*source
	fence   ident.Fence // the attempt that runs; zero: none
	newest  ident.Fence // of those that were ever told of
	found   uint64
	aside   uint64
	failed  uint64
	out     []Effect
}

// source is what is known of one source in the attempt that runs.
type source struct {
	Source
	splits   map[ident.Subtask][]manifest.Position
	known    map[manifest.Split]bool
	ids      map[string]manifest.TopicID // of the topics that are read; zero: unknown
	exist    map[string]manifest.TopicID // as the newest listing told
	busy     bool                        // a List, Store or SetAside waits for its answer
	due      time.Time                   // of the next look; zero: never
	failures int                         // in a row
	fault    string
	missing  []string // topics that are gone
	// absent says since when, over all attempts; removed are the subtasks that had splits which this attempt set aside.
	absent  map[string]absence
	removed map[manifest.Split]ident.Subtask
	// doubts counts the listings in a row that showed another topic of the same name: doubt says which.
	doubts int
	doubt  string
}

// New makes the machine of a job; no attempt runs yet.
func New(sources []Source) *Machine {
	m := &Machine{}
	for _, s := range sources {
		m.sources = append(m.sources, &source{Source: s})
	}
	return m
}

// Step applies one event and returns what must now be done, in order.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	m.out = nil
	switch ev := ev.(type) {
	case Started:
		m.onStarted(now, ev)
	case Ended:
		m.onEnded(ev)
	case Listed:
		m.onListed(now, ev)
	case Stored:
		m.onStored(now, ev)
	case AsideSet:
		m.onAsideSet(now, ev)
	case Tick:
	}
	m.look(now)
	return m.out
}

// Deadline is when Step wants a Tick next; zero for never.
func (m *Machine) Deadline() time.Time {
	var first time.Time
	for _, s := range m.sources {
		if m.running() && !s.busy && !s.due.IsZero() && (first.IsZero() || s.due.Before(first)) {
			first = s.due
		}
	}
	return first
}

// Status is how the search stands.
func (m *Machine) Status() Status {
	st := Status{Found: m.found, SetAside: m.aside, Failures: m.failed}
	for _, s := range m.sources {
		if s.fault != "" {
			st.Waiting = append(st.Waiting, fmt.Sprintf("source %s: new partitions are not found: %s (tried again, %d times so far; the others are read)", s.Name, s.fault, s.failures))
		}
		if s.doubt != "" {
			st.Waiting = append(st.Waiting, s.doubt)
		}
		if len(s.missing) > 0 {
			st.Waiting = append(st.Waiting, fmt.Sprintf("source %s: %s: nothing is read from there; the other topics go on", s.Name, gone(s.missing))+s.outlook())
		}
		if s.Pattern && len(s.known) == 0 && s.exist != nil {
			st.Waiting = append(st.Waiting, fmt.Sprintf("source %s: no topic matches its pattern, or may be seen: it reads nothing until one does", s.Name))
		}
	}
	return st
}

// gone says which topics are not there.
func gone(topics []string) string {
	if n := len(topics); n > maxNamed {
		topics = append(slices.Clone(topics[:maxNamed]), fmt.Sprintf("%d more", n-maxNamed))
	}
	if len(topics) == 1 {
		return "topic " + topics[0] + " does not exist any more, or may not be seen"
	}
	return "topics " + strings.Join(topics, ", ") + " do not exist any more, or may not be seen"
}

func (m *Machine) emit(e Effect) { m.out = append(m.out, e) }

func (m *Machine) ignore(ev Event, why string) { m.emit(Ignored{What: ev.String(), Why: why}) }

func (m *Machine) running() bool { return m.fence != ident.Fence{} }

func after(a, b ident.Fence) bool {
	return a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Attempt > b.Attempt
}

func (m *Machine) onStarted(now time.Time, ev Started) {
	if !after(ev.Fence, m.newest) {
		m.ignore(ev, "it is late")
		return
	}
	m.fence, m.newest = ev.Fence, ev.Fence
	for _, s := range m.sources {
		*s = source{
			Source: s.Source, due: now, splits: map[ident.Subtask][]manifest.Position{}, known: map[manifest.Split]bool{}, ids: map[string]manifest.TopicID{},
			absent: s.absent, removed: map[manifest.Split]ident.Subtask{},
		}
		for subtask, list := range ev.Splits {
			if subtask.Vertex == s.Name {
				s.give(subtask, list)
			}
		}
	}
}

func (m *Machine) onEnded(ev Ended) {
	if after(ev.Fence, m.newest) {
		m.newest = ev.Fence // it never ran
	}
	if after(m.fence, ev.Fence) {
		m.ignore(ev, "a newer one runs")
		return
	}
	m.fence = ident.Fence{}
	for _, s := range m.sources {
		*s = source{Source: s.Source, absent: s.absent}
	}
}

// look lists the sources that are due.
func (m *Machine) look(now time.Time) {
	if !m.running() {
		return
	}
	for _, s := range m.sources {
		if s.busy || s.due.IsZero() || s.due.After(now) {
			continue
		}
		s.busy = true
		m.emit(List{Fence: m.fence, Source: s.Name, Known: s.all()})
	}
}

// answered finds the source of an answer; nil: it is not waited for.
func (m *Machine) answered(ev Event, fence ident.Fence, name string) *source {
	if fence != m.fence || !m.running() {
		m.ignore(ev, "the attempt does not run")
		return nil
	}
	for _, s := range m.sources {
		if s.Name == name && s.busy {
			s.busy = false
			return s
		}
	}
	m.ignore(ev, "it was not asked for")
	return nil
}

func (m *Machine) onListed(now time.Time, ev Listed) {
	s := m.answered(ev, ev.Fence, ev.Source)
	if s == nil {
		return
	}
	if ev.Topics != nil {
		s.exist = ev.Topics
		if s.compare(); s.doubt != "" {
			m.doubt(now, s)
			return
		}
		s.note(now)
	}
	m.next(now, s, ev.Err)
	if found := s.unknown(ev.Found); len(found) > 0 {
		s.busy = true
		m.emit(Store{Fence: m.fence, Source: s.Name, Positions: found})
	} else if gone := s.longGone(now); len(gone) > 0 {
		s.busy = true
		m.emit(SetAside{Fence: m.fence, Source: s.Name, Positions: gone})
	}
}

// doubt fails the attempt if the doubt lasts: a broker that is cut off from the others may tell of a topic that
// has long been deleted.
func (m *Machine) doubt(now time.Time, s *source) {
	if s.doubts < maxDoubts {
		s.due = now.Add(retryMin << s.doubts)
		return
	}
	s.due = time.Time{}
	m.emit(Fail{Fence: m.fence, Why: s.doubt})
}

// next decides when a source is looked at again.
func (m *Machine) next(now time.Time, s *source, err error) {
	s.fault = ""
	if err != nil {
		m.failed++
		s.fault = err.Error()
	}
	if err == nil && (len(s.missing) == 0 || s.Interval == 0) {
		s.failures, s.due = 0, time.Time{}
		if s.Interval > 0 {
			s.due = now.Add(s.Interval)
		}
		return
	}
	pause := retryMin
	for i := 0; i < s.failures && pause < retryMax; i++ {
		pause = min(2*pause, retryMax)
	}
	if s.Interval > 0 && err == nil { // a topic that is gone is no reason to ask less often than wanted
		pause = min(pause, s.Interval)
	}
	s.failures++
	s.due = now.Add(pause)
}

// compare holds the topics that are read against those that exist. The id of a topic that was unknown is taken
// from what is seen first.
func (s *source) compare() {
	s.missing, s.doubt = nil, ""
	for _, topic := range slices.Sorted(maps.Keys(s.ids)) {
		was := s.ids[topic]
		is, ok := s.exist[topic]
		switch {
		case !ok:
			s.missing = append(s.missing, topic)
		case was == manifest.TopicID{}:
			s.ids[topic] = is
		case is != manifest.TopicID{} && is != was:
			s.doubt = Recreated(s.Name, topic, was, is)
		}
	}
	if s.doubts++; s.doubt == "" {
		s.doubts = 0
	}
}

// Recreated words that a topic is another one than that which the offsets are of.
func Recreated(source, topic string, was, is manifest.TopicID) string {
	return fmt.Sprintf("source %s: topic %s was deleted and created again (its id was %s and is %s): the offsets of this job are of the old one; "+
		"to read the new one from its beginning, cancel the job and submit it anew with startup: earliest", source, topic, was, is)
}

// unknown leaves out what the source reads already.
func (s *source) unknown(found []manifest.Position) []manifest.Position {
	var out []manifest.Position
	for _, p := range found {
		if !s.known[p.Split] && p.Source == s.Name {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	return slices.CompactFunc(out, func(a, b manifest.Position) bool { return a.Split == b.Split })
}

func (m *Machine) onStored(now time.Time, ev Stored) {
	s := m.answered(ev, ev.Fence, ev.Source)
	if s == nil {
		return
	}
	if ev.Err != nil {
		m.next(now, s, ev.Err)
		return
	}
	given := map[ident.Subtask][]manifest.Position{}
	for _, p := range s.unknown(ev.Positions) {
		if id := s.exist[p.Topic]; id != (manifest.TopicID{}) && p.TopicID != (manifest.TopicID{}) && id != p.TopicID {
			s.due = time.Time{}
			m.emit(Fail{Fence: m.fence, Why: Recreated(s.Name, p.Topic, p.TopicID, id)})
			return
		}
		to, had := s.removed[p.Split]
		if !had {
			to = s.least()
		}
		s.give(to, []manifest.Position{p})
		given[to] = append(given[to], p)
	}
	if ev.Unread != nil {
		m.next(now, s, ev.Unread)
	}
	for _, to := range slices.SortedFunc(maps.Keys(given), ident.Subtask.Compare) {
		m.found += uint64(len(given[to]))
		m.emit(Add{Fence: m.fence, Subtask: to, Positions: given[to]})
	}
}

// give notes that a subtask reads splits.
func (s *source) give(to ident.Subtask, list []manifest.Position) {
	s.splits[to] = append(s.splits[to], list...)
	for _, p := range list {
		s.known[p.Split] = true
		if id := s.ids[p.Topic]; id == (manifest.TopicID{}) {
			s.ids[p.Topic] = p.TopicID
		}
	}
}

// least is the subtask with the fewest splits, the first of them.
func (s *source) least() ident.Subtask {
	list := slices.SortedFunc(maps.Keys(s.splits), ident.Subtask.Compare)
	return slices.MinFunc(list, func(a, b ident.Subtask) int { return len(s.splits[a]) - len(s.splits[b]) })
}

// all are the splits of the source, in order.
func (s *source) all() []manifest.Position {
	var out []manifest.Position
	for _, list := range s.splits {
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	return out
}
