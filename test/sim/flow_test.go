package sim

import (
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// flow is the exchange of one attempt: a link from each source to each sink, which keeps its order.
type flow struct {
	w     *world
	links [][]*link // by source and sink
	sinks []*sinkTask
}

// link carries elements; what has arrived waits for the sink.
type link struct {
	last    time.Duration // when the last element arrives
	arrived []element
}

// element is a batch, the offsets [from, to) of a source, or a barrier.
type element struct {
	from, to int64
	barrier  ident.CheckpointID // 0: a batch
}

// flowOf is the exchange of an attempt, made by whoever comes first.
func (w *world) flowOf(j *job, f ident.Fence) *flow {
	k := attemptKey{j.id, f}
	if w.flows[k] == nil {
		n := len(j.subtasks) - len(j.sources)
		fl := &flow{w: w, sinks: make([]*sinkTask, n)}
		for range j.sources {
			row := make([]*link, n)
			for i := range row {
				row[i] = &link{}
			}
			fl.links = append(fl.links, row)
		}
		w.flows[k] = fl
	}
	return w.flows[k]
}

// send puts an element on the link from a source to a sink.
func (f *flow) send(source, sink int, e element) {
	l := f.links[source][sink]
	l.last = max(l.last, f.w.now+f.w.delay())
	f.w.after(l.last-f.w.now, func() {
		l.arrived = append(l.arrived, e)
		if s := f.sinks[sink]; s != nil {
			s.wake()
		}
	})
}

// emit sends what a source has read since it last did, to one sink after the other.
func (tm *taskManager) emit(in *instance) {
	at := in.position(tm.w.now)
	if at <= in.sent {
		return
	}
	f := tm.w.flowOf(in.job, in.fence)
	in.batches++
	f.send(in.subtask.Index, (in.subtask.Index+in.batches)%len(f.sinks), element{from: in.sent, to: at})
	in.sent = at
}

// emitLater lets a source emit from time to time until it ends.
func (tm *taskManager) emitLater(in *instance) {
	tm.later(tm.w.emitEvery, func() {
		if in.ending || in.over {
			return
		}
		tm.emit(in)
		if !in.frozen && (in.job.bound == 0 || in.sent < in.job.bound) {
			tm.emitLater(in)
		}
	})
}
