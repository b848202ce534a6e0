package subtask

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

// fakeUntil ends a split at the value end; it fails on the value bad.
type fakeUntil struct{ out operator.Batch }

func (u *fakeUntil) Cut(b *operator.Batch) (*operator.Batch, int64, error) {
	u.out = operator.Batch{Arena: b.Arena, Origins: b.Origins}
	for _, r := range b.Records {
		switch string(b.Bytes(r.Value)) {
		case "end":
			return &u.out, r.Offset, nil
		case "bad":
			return nil, -1, errors.New("it cannot be compared")
		}
		u.out.Records = append(u.out.Records, r)
	}
	return &u.out, -1, nil
}

// endingSource hears which splits are over.
type endingSource struct{ *fakeSource }

func (s endingSource) EndSplit(split manifest.Split, at int64) {
	s.add("%d ends at %d", split.Partition, at)
}

// untilTask is sourceTask with one sink, without a count, and with fakeUntil.
func untilTask(j *journal, at ...manifest.Position) (Config, *fakeSource, *fakeSink) {
	cfg, src, sinks := sourceTask(j, "", at...)
	cfg.Vertex.Nodes = []graph.Node{sourceNode(""), node("a", graph.KindSink, 0)}
	cfg.Vertex.Nodes[0].Source.Kafka.Until = "value == 'end'"
	cfg.Source, cfg.Until, cfg.Outputs[0].Node = endingSource{src}, &fakeUntil{}, 0
	return cfg, src, sinks[0]
}

// TestUntilEndsASplit: the record for which it holds, and what is behind it, is not delivered; the position
// stays at it; the subtask is at its end when all splits are.
func TestUntilEndsASplit(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sink := untilTask(j, position(0, 10, -1), position(1, 5, -1))
		task, _ := start(t, cfg)
		src.deliver(0, 13, "x", "end", "y")
		expect(t, j, "running, 0 ends at 11, a writes x, released, sends x")
		src.deliver(0, 14, "late")
		src.deliver(1, 6, "z")
		expect(t, j, "released, a writes z, released, sends z")
		task.Trigger(1, Periodic)
		sealLater(sink, 1)
		expect(t, j, "a seals #1, barrier #1, ack #1 0@11 1@6 t")
		src.deliver(1, 8, "end", "late") // the position stands at the end already
		expect(t, j, "1 ends at 6, end, at end, released")
		task.Trigger(2, Final)
		sealLater(sink, 2)
		expect(t, j, "a seals #2, barrier #2, ack #2 0@11 1@6 t")
	})
}

func sealLater(s *fakeSink, id ident.CheckpointID) {
	synctest.Wait()
	s.seal(id, "t")
}

// TestUntilAfterARestore: what has ended stays so, whether or not its last record is still there.
func TestUntilAfterARestore(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := untilTask(j, position(0, 11, 11), position(1, 5, -1))
		start(t, cfg)
		src.deliver(1, 6, "end")
		expect(t, j, "running, 1 ends at 5, end, at end, released")
	})
	bubble(t, func(t *testing.T, j *journal) {
		cfg, _, _ := untilTask(j, position(0, 11, 11))
		start(t, cfg)
		expect(t, j, "running, end, at end")
	})
}

// TestUntilBeforeABound: what comes first ends the split.
func TestUntilBeforeABound(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := untilTask(j, position(0, 0, 9), position(1, 0, 1))
		start(t, cfg)
		src.deliver(1, 1, "x")
		src.deliver(0, 2, "x", "end")
		expect(t, j, "running, a writes x, released, sends x, 0 ends at 1, a writes x, sends x, end, at end, released")
	})
}

func TestUntilThatFails(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := untilTask(j, position(0, 0, -1))
		_, stop := start(t, cfg)
		src.deliver(0, 1, "bad")
		synctest.Wait()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "src") || !strings.Contains(err.Error(), "cannot be compared") {
			t.Errorf("error %v", err)
		}
	})
}

// fakeLetters is a gatherer of dead letters; the test puts them in.
type fakeLetters struct {
	write   func(string, *operator.Batch) error
	waiting map[string]*operator.Batch
	stopped atomic.Bool
}

func (l *fakeLetters) Stop() { l.stopped.Store(true) }

func (l *fakeLetters) Bind(write func(string, *operator.Batch) error) { l.write = write }

func (l *fakeLetters) Flush() error {
	for source, b := range l.waiting {
		if err := l.write(source, b); err != nil {
			return err
		}
	}
	clear(l.waiting)
	return nil
}

// TestDeadLettersBelongToTheCut: they are written before the next barrier can come, to the sink of their
// source alone, which is sealed and acknowledged with the others; nothing else goes there.
func TestDeadLettersBelongToTheCut(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, "", position(0, 0, -1))
		dead := newFakeSink("dead", j)
		cfg.Vertex.Nodes = append(cfg.Vertex.Nodes, graph.Node{Name: "dead", Kind: graph.KindSink, Parent: -1, DeadLettersOf: "src"})
		cfg.Sinks["dead"] = dead
		letters := &fakeLetters{waiting: map[string]*operator.Batch{}}
		cfg.DeadLetters = letters
		task, stop := start(t, cfg)
		expect(t, j, "running")
		letters.waiting["src"] = batchOf(0, 0, "poison")
		src.deliver(0, 1, "x")
		task.Trigger(1, Periodic)
		expect(t, j, "a writes x, b writes x, dead writes poison, released, a seals #1, b seals #1, dead seals #1, sends x, barrier #1")
		sinks[0].seal(1, "t")
		sinks[1].seal(1, "u")
		expect(t, j, "")
		dead.seal(1, "v")
		expect(t, j, "ack #1 0@1 count=1 t u v")
		task.Completed(1)
		expect(t, j, "a hears of #1, b hears of #1, dead hears of #1")
		letters.waiting["other"] = batchOf(0, 1, "poison")
		src.deliver(0, 2, "x")
		synctest.Wait()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "takes no dead letters of source other") {
			t.Errorf("error %v", err)
		}
	})
}

// busyOperator works on a record until it is told to stop.
type busyOperator struct{ letters *fakeLetters }

func (o busyOperator) Process(*operator.Batch, operator.Collector) error {
	for !o.letters.stopped.Load() {
		time.Sleep(time.Millisecond)
	}
	return errors.New("stopped")
}

// TestBusyOperatorsHearOfTheEnd: an operator that is busy with a record is told when the subtask is to end, which it ends with.
func TestBusyOperatorsHearOfTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := sourceTask(j, "", position(0, 0, -1))
		letters := &fakeLetters{waiting: map[string]*operator.Batch{}}
		cfg.DeadLetters, cfg.Operators["count"] = letters, busyOperator{letters}
		_, stop := start(t, cfg)
		src.deliver(0, 1, "x")
		time.Sleep(time.Second)
		if letters.stopped.Load() {
			t.Error("it is stopped while the subtask runs")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
