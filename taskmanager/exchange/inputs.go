package exchange

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// ElementKind says what an Element is.
type ElementKind int

// The kinds of elements. End says that no batch follows on the input; barriers still do.
const (
	BatchElement ElementKind = iota + 1
	BarrierElement
	EndElement
)

// Element is the next thing of one input.
type Element struct {
	Input int
	Kind  ElementKind
	// Batch is set for BatchElement; it is borrowed until Inputs.Release.
	Batch *operator.Batch
	// Checkpoint is set for BarrierElement.
	Checkpoint ident.CheckpointID

	bytes int
	frame mem.Buffer
}

// maxControls bounds the barriers and ends that wait on one channel; they need no credit. Only a peer
// that breaks the protocol gets there.
const maxControls = 4096

// granter is told when bytes of a channel have been consumed.
type granter interface {
	grant(bytes int)
}

// queued is an element that waits. For a remote batch data is the encoded part of frame.
type queued struct {
	kind  ElementKind
	id    ident.CheckpointID
	batch *operator.Batch
	frame mem.Buffer
	data  []byte
	bytes int
}

// inChannel is one input of a subtask.
type inChannel struct {
	owner   *Inputs
	index   int
	name    Channel
	credits granter
	// limitBytes is the whole credit of the channel.
	limitBytes int

	// Guarded by owner.mu.
	queue       []queued // queue[head:] waits
	head        int
	queuedBytes int64
	controls    int
	blocked     bool
	listed      bool
}

// Inputs merges the inputs of one subtask, fairly, in bounded memory. Push may be called by any
// goroutine, all else by the subtask's own.
type Inputs struct {
	mu       sync.Mutex
	channels []*inChannel
	turn     []int // the inputs with something to take, in the order of their turns
	ready    chan struct{}

	batches *batches
	reader  frameReader
}

func newInputs(names []Channel, limitBytes int, pool *batches) *Inputs {
	in := &Inputs{ready: make(chan struct{}, 1), batches: pool, turn: make([]int, 0, len(names))}
	for i, name := range names {
		in.channels = append(in.channels, &inChannel{owner: in, index: i, name: name, limitBytes: limitBytes})
	}
	return in
}

// Count is the number of inputs.
func (in *Inputs) Count() int { return len(in.channels) }

// Ready receives after something has become available; a Next after it may still find nothing.
func (in *Inputs) Ready() <-chan struct{} { return in.ready }

// Next takes the next element without waiting; ok is false when every input is empty or blocked. The
// error says that what a peer sent cannot be decoded.
func (in *Inputs) Next() (e Element, ok bool, err error) {
	in.mu.Lock()
	if len(in.turn) == 0 {
		in.mu.Unlock()
		return Element{}, false, nil
	}
	i := in.turn[0]
	in.turn = append(in.turn[:0], in.turn[1:]...)
	c := in.channels[i]
	q := c.pop()
	c.listed = c.head < len(c.queue)
	if c.listed {
		in.turn = append(in.turn, i)
	}
	in.mu.Unlock()

	e = Element{Input: i, Kind: q.kind, Checkpoint: q.id, Batch: q.batch, bytes: q.bytes, frame: q.frame}
	if q.frame != nil {
		e.Batch = in.batches.get()
		if err := in.reader.decode(q.data, e.Batch); err != nil {
			return Element{}, false, fmt.Errorf("read a batch of channel %s: %w", c.name, err)
		}
	}
	return e, true, nil
}

// Release gives the memory of an element back and grants its bytes to the sender. Every element with a
// batch is released once.
func (in *Inputs) Release(e Element) {
	if e.Batch == nil {
		return
	}
	if e.frame != nil {
		e.Batch.Arena = nil
		e.frame.Free()
	}
	in.batches.put(e.Batch)
	in.channels[e.Input].credits.grant(e.bytes)
}

// Block holds an input: its elements stay queued, and when its credit is used up its sender waits.
func (in *Inputs) Block(input int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	c := in.channels[input]
	c.blocked = true
	if !c.listed {
		return
	}
	c.listed = false
	kept := in.turn[:0]
	for _, i := range in.turn {
		if i != input {
			kept = append(kept, i)
		}
	}
	in.turn = kept
}

// UnblockAll lets all inputs go on.
func (in *Inputs) UnblockAll() {
	in.mu.Lock()
	for _, c := range in.channels {
		if c.blocked {
			c.blocked = false
			c.list()
		}
	}
	in.mu.Unlock()
	in.signal()
}

func (in *Inputs) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// push queues an element that the credit allows.
func (c *inChannel) push(q queued) error {
	in := c.owner
	in.mu.Lock()
	if err := c.admit(&q); err != nil {
		in.mu.Unlock()
		return err
	}
	if c.head > 0 && len(c.queue) == cap(c.queue) {
		c.queue = c.queue[:copy(c.queue, c.queue[c.head:])]
		c.head = 0
	}
	c.queue = append(c.queue, q)
	c.queuedBytes += int64(q.bytes)
	c.list()
	in.mu.Unlock()
	in.signal()
	return nil
}

// admit checks that the sender keeps to the protocol. The caller holds the lock.
func (c *inChannel) admit(q *queued) error {
	if q.kind != BatchElement {
		if c.controls++; c.controls > maxControls {
			return fmt.Errorf("channel %s: more than %d barriers wait", c.name, maxControls)
		}
		return nil
	}
	if c.queuedBytes >= int64(c.limitBytes) {
		return fmt.Errorf("channel %s: a batch without credit, %d bytes wait already", c.name, c.queuedBytes)
	}
	return nil
}

// list gives the channel a turn if it has something to take. The caller holds the lock.
func (c *inChannel) list() {
	if !c.listed && !c.blocked && c.head < len(c.queue) {
		c.listed = true
		c.owner.turn = append(c.owner.turn, c.index)
	}
}

// pop takes the first element. The caller holds the lock and has seen that there is one.
func (c *inChannel) pop() queued {
	q := c.queue[c.head]
	c.queue[c.head] = queued{}
	c.head++
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	}
	c.queuedBytes -= int64(q.bytes)
	if q.kind != BatchElement {
		c.controls--
	}
	return q
}
