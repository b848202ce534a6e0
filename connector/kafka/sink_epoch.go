package kafka

import "github.com/sluice-stream/sluice/ident"

// epochs counts the batches between seals. A batch belongs to the epoch in which it was opened; a seal
// closes all batches, so none reaches into the next.
type epochs struct {
	first uint64 // number of list[0]
	list  []epoch
}

type epoch struct {
	id      ident.CheckpointID
	sealed  bool
	pending int // batches that are not acknowledged
}

func newEpochs() epochs { return epochs{list: make([]epoch, 1)} }

// enter counts a batch and returns the number of its epoch.
func (e *epochs) enter() uint64 {
	last := len(e.list) - 1
	e.list[last].pending++
	return e.first + uint64(last)
}

// again counts one more batch of an epoch: one was split.
func (e *epochs) again(number uint64) { e.at(number).pending++ }

// leave takes off an acknowledged batch; it returns whether an epoch may now be reported.
func (e *epochs) leave(number uint64) bool {
	at := e.at(number)
	at.pending--
	return at.pending == 0 && e.list[0].sealed
}

// at finds an epoch; one that was reported without being acknowledged is not there any more.
func (e *epochs) at(number uint64) *epoch {
	if number < e.first {
		return &epoch{pending: 1}
	}
	return &e.list[number-e.first]
}

// seal ends the current epoch and begins the next.
func (e *epochs) seal(id ident.CheckpointID) {
	last := &e.list[len(e.list)-1]
	last.id, last.sealed = id, true
	e.list = append(e.list, epoch{})
}

// forgive reports sealed epochs without waiting for what is pending in them.
func (e *epochs) forgive() {
	for i := range e.list {
		if e.list[i].sealed {
			e.list[i].pending = 0
		}
	}
}

// next takes off the oldest epoch if it is sealed and acknowledged.
func (e *epochs) next() (ident.CheckpointID, bool) {
	if !e.list[0].sealed || e.list[0].pending > 0 {
		return 0, false
	}
	id := e.list[0].id
	e.list = e.list[1:]
	e.first++
	return id, true
}
