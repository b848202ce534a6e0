package subtask

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/operator"
)

// growingSource is a fakeSource that takes splits.
type growingSource struct{ *fakeSource }

func (s growingSource) AddSplits(positions []manifest.Position) {
	for _, p := range positions {
		s.add("source takes %d@%d", p.Partition, p.Next)
	}
}

func TestAddedSplits(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, "", position(0, 10, -1))
		cfg.Source = growingSource{src}
		task, stop := start(t, cfg)
		expect(t, j, "running")
		task.AddSplits([]manifest.Position{position(1, 3, -1), position(0, 0, -1)}) // 0 is there
		expect(t, j, "source takes 1@3")
		task.AddSplits([]manifest.Position{position(1, 0, -1)}) // a repeat
		task.AddSplits(nil)
		expect(t, j, "")
		src.deliver(1, 5, "x", "y")
		expect(t, j, "a writes x y, b writes x y, released, sends x y")
		// A split that comes together with a trigger is part of that checkpoint.
		task.mailbox.put(func(m *mail) {
			m.addTrigger(trigger{1, Periodic})
			m.addSplits([]manifest.Position{position(2, 7, -1), position(2, 9, -1)})
		})
		synctest.Wait()
		sinks[0].seal(1, "t")
		sinks[1].seal(1, "u")
		expect(t, j, "source takes 2@7, a seals #1, b seals #1, barrier #1, ack #1 0@10 1@5 2@7 count=2 t u")
		// After a final barrier nothing is read any more.
		task.Trigger(2, Final)
		synctest.Wait()
		task.AddSplits([]manifest.Position{position(3, 0, -1)})
		synctest.Wait()
		sinks[0].seal(2, "t")
		sinks[1].seal(2, "u")
		expect(t, j, "a seals #2, b seals #2, barrier #2, ack #2 0@10 1@5 2@7 count=2 t u")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSourceThatTakesNoSplits: what cannot be read must not be taken for read.
func TestSourceThatTakesNoSplits(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, _, _ := sourceTask(j, "", position(0, 10, -1))
		task, stop := start(t, cfg)
		expect(t, j, "running")
		task.AddSplits([]manifest.Position{position(1, 3, -1)})
		synctest.Wait()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "takes no partitions while it runs") {
			t.Errorf("ended with %v", err)
		}
	})
}

var _ operator.SplitAdder = growingSource{}
