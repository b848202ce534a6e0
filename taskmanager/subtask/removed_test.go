package subtask

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/operator"
)

// shrinkingSource is a growingSource that lets go of splits, unless they are kept.
type shrinkingSource struct {
	growingSource
	keeps map[int32]bool
}

func (s shrinkingSource) RemoveSplit(split manifest.Split, at int64) bool {
	s.add("source asked for %d@%d", split.Partition, at)
	return !s.keeps[split.Partition]
}

var _ operator.SplitRemover = shrinkingSource{}

// TestRemovedSplits: what stands where the job manager stored it leaves the checkpoints, and may come back. What was read
// further, is of another topic, or is on its way from the source stays.
func TestRemovedSplits(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, sinks := sourceTask(j, "", position(0, 10, -1))
		cfg.Positions = []manifest.Position{position(0, 10, -1), position(1, 3, -1), position(2, 7, -1), position(3, 1, -1)}
		cfg.Source = shrinkingSource{growingSource{src}, map[int32]bool{3: true}}
		task, stop := start(t, cfg)
		expect(t, j, "running")
		another := position(2, 7, -1)
		another.TopicID = manifest.TopicID{5}
		task.RemoveSplits([]manifest.Position{position(0, 9, -1), position(1, 3, -1), another, position(3, 1, -1), position(8, 0, -1)})
		task.RemoveSplits(nil)
		synctest.Wait()
		task.Trigger(1, Periodic)
		synctest.Wait()
		sinks[0].seal(1, "t")
		sinks[1].seal(1, "u")
		expect(t, j, "source asked for 1@3, source asked for 3@1, a seals #1, b seals #1, barrier #1, ack #1 0@10 2@7 3@1 count=0 t u")
		src.deliver(2, 8, "x") // those that are left keep their places
		src.deliver(3, 2, "y")
		expect(t, j, "a writes x, b writes x, released, a writes y, b writes y, released, sends x y")
		task.AddSplits([]manifest.Position{position(1, 3, -1)})
		expect(t, j, "source takes 1@3")
		task.RemoveSplits([]manifest.Position{position(0, 10, -1)}) // the first of all
		synctest.Wait()
		task.Trigger(2, Periodic)
		synctest.Wait()
		sinks[0].seal(2, "t")
		sinks[1].seal(2, "u")
		expect(t, j, "source asked for 0@10, a seals #2, b seals #2, barrier #2, ack #2 2@8 3@2 1@3 count=2 t u")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTopicThatTookThePlace: what was kept of a topic makes room for another one of its name.
func TestTopicThatTookThePlace(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		of := func(id byte, partition int32, next int64) manifest.Position {
			p := position(partition, next, -1)
			p.TopicID = manifest.TopicID{id}
			return p
		}
		cfg, src, sinks := sourceTask(j, "", position(0, 10, -1))
		cfg.Positions = []manifest.Position{of(1, 0, 10), of(1, 1, 3), of(1, 2, 7)}
		cfg.Source = shrinkingSource{growingSource{src}, map[int32]bool{1: true}}
		task, stop := start(t, cfg)
		expect(t, j, "running")
		task.AddSplits([]manifest.Position{of(2, 0, 0), of(1, 2, 4)})
		expect(t, j, "source asked for 0@10, source takes 0@0")
		task.Trigger(1, Periodic)
		synctest.Wait()
		sinks[0].seal(1, "t")
		sinks[1].seal(1, "u")
		expect(t, j, "a seals #1, b seals #1, barrier #1, ack #1 1@3 2@7 0@0 count=0 t u")
		task.AddSplits([]manifest.Position{of(2, 1, 0)}) // of which something is on its way
		synctest.Wait()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "was deleted and created again, and records of the old one are still on their way") {
			t.Fatal(err)
		}
	})
}

// TestASourceThatKeepsItsSplits: one that cannot let go is left as it is.
func TestASourceThatKeepsItsSplits(t *testing.T) {
	bubble(t, func(t *testing.T, j *journal) {
		cfg, src, _ := sourceTask(j, "", position(0, 10, -1))
		task, stop := start(t, cfg)
		expect(t, j, "running")
		task.RemoveSplits([]manifest.Position{position(0, 10, -1)})
		synctest.Wait()
		src.deliver(0, 11, "x")
		expect(t, j, "a writes x, b writes x, released, sends x")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRemovedBeforeItWasLookedAt: the loop may wait in a sink for long.
func TestRemovedBeforeItWasLookedAt(t *testing.T) {
	var m mail
	m.addSplits([]manifest.Position{position(1, 3, -1), position(2, 4, -1), position(3, 6, -1)})
	m.removeSplits([]manifest.Position{position(1, 3, -1), position(2, 5, -1)}) // 2@4 repeats what was given before
	m.removeSplits([]manifest.Position{position(1, 3, -1)})
	if len(m.added) != 1 || m.added[0] != position(3, 6, -1) || len(m.removed) != 2 {
		t.Errorf("%+v", m)
	}
	m.addSplits([]manifest.Position{position(1, 3, -1)})
	if len(m.added) != 2 {
		t.Errorf("%+v", m)
	}
}
