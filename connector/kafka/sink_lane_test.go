package kafka

import (
	"io"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/graph"
)

// TestOversleeps: a lane that goes to wait for an answer wakes the other one when that would not wake up in time by itself.
func TestOversleeps(t *testing.T) {
	now := time.Now()
	awake, forever, early, late := nap{}, nap{is: true}, nap{true, now.Add(time.Second)}, nap{true, now.Add(time.Hour)}
	due := now.Add(time.Minute)
	for _, test := range []struct {
		name  string
		other nap
		due   time.Time
		want  bool
	}{
		{"it is awake", awake, due, false},
		{"it sleeps until it is woken", forever, due, true},
		{"it wakes up before", early, due, false},
		{"it wakes up just then", nap{true, due}, due, false},
		{"it wakes up too late", late, due, true},
		{"nothing is due", forever, time.Time{}, false},
	} {
		if got := (&leader{asleep: [lanesPerLeader]nap{test.other}}).oversleeps(test.due); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if (&leader{asleep: [lanesPerLeader]nap{forever, early}}).oversleeps(due) {
		t.Error("one wakes up before, and that is enough")
	}
}

// TestRecoveredWithoutRecords: a partition that has a leader again is well, though nothing is written to it; while something
// waits, only its delivery tells.
func TestRecoveredWithoutRecords(t *testing.T) {
	s := idleSink(t, &graph.KafkaSink{Topic: "out", Guarantee: graph.AtLeastOnce, Partitioner: graph.Preserve}, 2)
	inTrouble := func(t *target) bool { return s.trouble.reasons[t.name] != "" }
	s.leaders[1] = &leader{broker: 1, wake: make(chan struct{}, lanesPerLeader)}
	if err := s.Write(t.Context(), batchOf(&kgo.Record{Topic: "in", Partition: 1, Value: []byte("x")})); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range int32(2) {
		target := s.topics["out"].targets[p]
		if err := s.failed(target, io.ErrUnexpectedEOF); err != nil {
			t.Fatal(err)
		}
		s.adopt(t.Context(), target, 1)
		if waits := p == 1; waits != (target.tries > 0) || waits != inTrouble(target) {
			t.Errorf("partition %d: %d tries, trouble %v; something waits: %v", p, target.tries, inTrouble(target), waits)
		}
	}
	waiting := s.topics["out"].targets[1]
	s.closeOpen(waiting)
	s.delivered(waiting, waiting.queue[0], 0)
	if waiting.tries > 0 || inTrouble(waiting) {
		t.Errorf("after its delivery: %d tries, trouble %v", waiting.tries, inTrouble(waiting))
	}
}
