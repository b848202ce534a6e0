package taskmanager

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

func attemptOf(n int) attemptID {
	return attemptID{"job", ident.Fence{Epoch: 1, Attempt: ident.Attempt(n)}}
}

func subtaskOf(n int) ident.Subtask { return ident.Subtask{Vertex: "v", Index: n} }

func ackOf(attempt, subtask, checkpoint int) *manifest.Ack {
	a := attemptOf(attempt)
	return &manifest.Ack{Job: a.job, Fence: a.fence, Subtask: subtaskOf(subtask), Checkpoint: ident.CheckpointID(checkpoint)}
}

// taken prints what take returns, sorted.
func taken(o *outbox) []string {
	unsent := o.take()
	var out []string
	for _, r := range unsent.reports {
		out = append(out, fmt.Sprintf("%s %s %s", r.attempt.fence, r.subtask, r.state))
	}
	for _, a := range unsent.acks {
		out = append(out, fmt.Sprintf("%s %s ack %d", a.Fence, a.Subtask, a.Checkpoint))
	}
	for _, d := range unsent.declines {
		out = append(out, fmt.Sprintf("%s %s decline %d", d.attempt.fence, d.subtask, d.checkpoint))
	}
	for _, l := range unsent.levels {
		out = append(out, fmt.Sprintf("%s %s %s ready %d wanted %d", l.attempt.fence, l.subtask, l.sink, l.Ready, l.Wanted))
	}
	slices.Sort(out)
	return out
}

func levelOf(attempt, ready int) sinkLevel {
	return sinkLevel{attempt: attemptOf(attempt), sinkKey: sinkKey{subtaskOf(0), "out"}, TransactionLevel: operator.TransactionLevel{Ready: ready, Wanted: 4}}
}

func TestOutbox(t *testing.T) {
	a := attemptOf(1)
	deploy := func(o *outbox) {
		o.report(report{attempt: a, subtask: subtaskOf(0), state: Deploying})
		o.report(report{attempt: a, subtask: subtaskOf(0), state: Running})
		o.ack(ackOf(1, 0, 7))
		o.ack(ackOf(1, 0, 8))
		o.decline(decline{attempt: a, subtask: subtaskOf(1), checkpoint: 8})
	}
	tests := []struct {
		name string
		do   func(o *outbox)
		want []string
	}{
		{"everything goes out, in each of its states", deploy,
			[]string{"1.1 v/0 DEPLOYING", "1.1 v/0 RUNNING", "1.1 v/0 ack 7", "1.1 v/0 ack 8", "1.1 v/1 decline 8"}},
		{"once", func(o *outbox) {
			deploy(o)
			o.take()
		}, nil},
		{"a new stream repeats the newest", func(o *outbox) {
			deploy(o)
			o.take()
			o.repeatAll()
		}, []string{"1.1 v/0 RUNNING", "1.1 v/0 ack 7", "1.1 v/0 ack 8", "1.1 v/1 decline 8"}},
		{"a new stream does not repeat what is settled", func(o *outbox) {
			deploy(o)
			o.take()
			o.settled(a, 7)
			o.repeatAll()
		}, []string{"1.1 v/0 RUNNING", "1.1 v/0 ack 8", "1.1 v/1 decline 8"}},
		{"settled is of one attempt", func(o *outbox) {
			deploy(o)
			o.take()
			o.settled(attemptOf(2), 100)
			o.repeatAll()
		}, []string{"1.1 v/0 RUNNING", "1.1 v/0 ack 7", "1.1 v/0 ack 8", "1.1 v/1 decline 8"}},
		{"the last reports of a forgotten attempt still go out", func(o *outbox) {
			deploy(o)
			o.take()
			o.report(report{attempt: a, subtask: subtaskOf(0), state: Canceled})
			o.forgetAttempt(a)
		}, []string{"1.1 v/0 CANCELED"}},
		{"but only on this stream", func(o *outbox) {
			deploy(o)
			o.report(report{attempt: a, subtask: subtaskOf(0), state: Canceled})
			o.forgetAttempt(a)
			o.repeatAll()
		}, nil},
		{"a new session begins empty", func(o *outbox) {
			deploy(o)
			o.clear()
			o.repeatAll()
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := newOutbox()
			test.do(o)
			if got := taken(o); !slices.Equal(got, test.want) {
				t.Errorf("sent %q, want %q", got, test.want)
			}
		})
	}
}

func TestOutboxWakes(t *testing.T) {
	o := newOutbox()
	for range 3 { // however often, nobody waits
		o.report(report{attempt: attemptOf(1), subtask: subtaskOf(0), state: Running})
	}
	select {
	case <-o.wake:
	default:
		t.Error("nobody is woken")
	}
	o.take()
	o.repeatAll()
	select {
	case <-o.wake:
	default:
		t.Error("a new stream is not woken")
	}
}

// TestOutboxLevels compares with a plain model: after a new stream the receiver knows the newest state of every
// subtask and every ack that is not settled, whatever was lost before.
func TestOutboxLevels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOutbox()
		states := map[string]SubtaskState{}
		acks := map[string]bool{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			attempt, subtask, n := rapid.IntRange(1, 2).Draw(t, "attempt"), rapid.IntRange(0, 2).Draw(t, "subtask"), rapid.IntRange(1, 5).Draw(t, "checkpoint")
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				s := rapid.SampledFrom([]SubtaskState{Deploying, Running, AtEnd}).Draw(t, "state")
				o.report(report{attempt: attemptOf(attempt), subtask: subtaskOf(subtask), state: s})
				states[fmt.Sprintf("1.%d v/%d", attempt, subtask)] = s
			case 1:
				o.ack(ackOf(attempt, subtask, n))
				acks[fmt.Sprintf("1.%d v/%d ack %d", attempt, subtask, n)] = true
			case 2:
				o.settled(attemptOf(attempt), ident.CheckpointID(n))
				maps.DeleteFunc(acks, func(k string, _ bool) bool { return settledIn(k, attempt, n) })
			case 3:
				o.forgetAttempt(attemptOf(attempt))
				maps.DeleteFunc(acks, func(k string, _ bool) bool { return settledIn(k, attempt, 100) })
				maps.DeleteFunc(states, func(k string, _ SubtaskState) bool { return k[:3] == fmt.Sprintf("1.%d", attempt) })
			case 4:
				o.take() // lost with its stream
			case 5:
				o.repeatAll()
			}
		}
		o.repeatAll()
		want := slices.Collect(maps.Keys(acks))
		for k, s := range states {
			want = append(want, k+" "+string(s))
		}
		slices.Sort(want)
		if got := taken(o); !slices.Equal(got, want) {
			t.Fatalf("sent %q, want %q", got, want)
		}
	})
}

func settledIn(key string, attempt, upTo int) bool {
	var a, s, n int
	if _, err := fmt.Sscanf(key, "1.%d v/%d ack %d", &a, &s, &n); err != nil {
		return false
	}
	return a == attempt && n <= upTo
}

func TestOutboxSinkLevels(t *testing.T) {
	tests := []struct {
		name string
		do   func(o *outbox)
		want []string
	}{
		{"of levels only the newest goes out", func(o *outbox) {
			o.level(levelOf(1, 0))
			o.level(levelOf(1, 2))
		}, []string{"1.1 v/0 out ready 2 wanted 4"}},
		{"levels are repeated", func(o *outbox) {
			o.level(levelOf(1, 1))
			o.take()
			o.repeatAll()
		}, []string{"1.1 v/0 out ready 1 wanted 4"}},
		{"levels end with their attempt", func(o *outbox) {
			o.level(levelOf(1, 1))
			o.level(levelOf(2, 3))
			o.take()
			o.forgetAttempt(attemptOf(1))
			o.repeatAll()
		}, []string{"1.2 v/0 out ready 3 wanted 4"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOutbox()
			tt.do(o)
			if got := taken(o); !slices.Equal(got, tt.want) {
				t.Errorf("took %q, want %q", got, tt.want)
			}
		})
	}
}
