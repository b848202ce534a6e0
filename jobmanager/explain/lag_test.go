package explain

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/operator"
)

func split(p int32) manifest.Split { return manifest.Split{Source: "in", Topic: "t", Partition: p} }

func at(next, stop int64) []manifest.Position {
	return []manifest.Position{{Split: split(0), Next: next, Stop: stop, LeaderEpoch: -1}}
}

func told(next, lag int64, waiting bool) []Told {
	return []Told{{Split: split(0), Subtask: ident.Subtask{Vertex: "in"}, Worker: "tm-1", Next: next, Lag: lag, Waiting: waiting}}
}

func end(high, stable int64, err error) []operator.LogEnd {
	return []operator.LogEnd{{Split: split(0), High: high, Stable: stable, Err: err}}
}

func TestLagOf(t *testing.T) {
	down := errors.New("kafka-1:9092: connection refused")
	cases := []struct {
		name       string
		checkpoint ident.CheckpointID
		positions  []manifest.Position
		told       []Told
		ends       []operator.LogEnd
		want       string
	}{
		{"start offsets", 0, at(5, -1), nil, end(25, 25, nil), "5 start 25 lag 20"},
		{"checkpoint", 3, at(5, -1), nil, end(25, 25, nil), "5 checkpoint 25 lag 20"},
		{"running", 3, at(5, -1), told(20, 5, false), end(30, 30, nil), "20 subtask 25 lag 5 tm-1"},
		{"running, broker does not tell", 3, at(5, -1), told(20, 5, false), end(-1, -1, down), "20 subtask 25 lag 5 tm-1"},
		{"held up, broker tells", 3, at(5, -1), told(20, 0, true), end(30, 30, nil), "20 subtask 30 lag 10 tm-1"},
		{"held up, nobody tells", 3, at(5, -1), told(20, 2, true), end(-1, -1, down), "20 subtask 22 lag 2 tm-1: the end of its log is not known: kafka-1:9092: connection refused; the lag is that of the last answer to its subtask"},
		{"running, end not known yet", 3, at(5, -1), told(5, -1, false), end(7, 7, nil), "5 subtask 7 lag 2 tm-1"},
		{"task manager that does not tell positions", 3, at(5, -1), told(-1, 4, false), end(7, 7, nil), "5 checkpoint 7 lag 2 tm-1"},
		{"bounded", 3, at(5, 8), nil, end(25, 25, nil), "5 checkpoint 25 lag 3"},
		{"bounded, running", 3, at(5, 8), told(7, 1, false), end(25, 25, nil), "7 subtask 25 lag 1 tm-1"},
		{"bounded, at its end", 3, at(8, 8), nil, end(25, 25, nil), "8 checkpoint 25 lag 0"},
		{"broker down", 3, at(5, -1), nil, end(-1, -1, down), "5 checkpoint -1 lag -1: the end of its log is not known: kafka-1:9092: connection refused"},
		{"log cut short", 3, at(5, -1), nil, end(2, 2, nil), "5 checkpoint 2 lag 0: its log ends at 2, before the position: it was cut short or made anew"},
		{"group, running", 3, nil, told(4, 6, false), end(10, 10, nil), "4 subtask 10 lag 6 tm-1"},
		{"group, not running", 3, nil, nil, []operator.LogEnd{{Split: split(0), High: 10, Stable: 10, Published: []operator.PublishedOffset{{Storage: graph.OffsetsKafka, Next: 4}}}}, "4 group 10 lag 6"},
		{"nothing known", 3, nil, nil, end(10, 10, nil), "-1  10 lag -1: its position is not known: nobody reads it, and no checkpoint or group has one"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := LagOf(c.checkpoint, c.positions, c.told, c.ends)
			if len(l.Partitions) != 1 {
				t.Fatalf("%d partitions, want 1", len(l.Partitions))
			}
			p := l.Partitions[0]
			got := fmt.Sprintf("%d %s %d lag %d%s%s", p.Position, p.From, p.End, p.Lag, after(" ", string(p.Worker)), after(": ", p.Note))
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if (p.Lag < 0) != (l.Unknown == 1) || p.Lag >= 0 && l.Total != p.Lag {
				t.Errorf("total %d, unknown %d, of lag %d", l.Total, l.Unknown, p.Lag)
			}
			if (p.Lag < 0) && p.Note == "" {
				t.Error("nobody says why the lag is not known")
			}
		})
	}
}

func TestLagIsSortedAndSummed(t *testing.T) {
	var positions []manifest.Position
	var ends []operator.LogEnd
	for i, high := range []int64{3, 9, -1, 9} {
		positions = append(positions, manifest.Position{Split: split(int32(i)), Stop: -1})
		ends = append(ends, operator.LogEnd{Split: split(int32(i)), High: high, Stable: -1, Err: map[bool]error{true: errors.New("down")}[high < 0]})
	}
	l := LagOf(1, positions, nil, ends)
	var order []int32
	for i := range l.Partitions {
		order = append(order, l.Partitions[i].Split.Partition)
	}
	if fmt.Sprint(order) != "[1 3 0 2]" || l.Total != 21 || l.Unknown != 1 {
		t.Errorf("order %v, total %d, unknown %d", order, l.Total, l.Unknown)
	}
}

func TestLagInSentences(t *testing.T) {
	cases := []struct {
		name string
		lag  Lag
		want string
	}{
		{"behind", LagOf(1, at(5, -1), told(5, 7, false), end(12, 12, nil)), "  The furthest behind is t/0 of source in: 7 records (position 5, end 12), read by in/0 on tm-1.\n"},
		{"nobody reads", LagOf(1, at(5, -1), nil, end(6, 6, nil)), "  The furthest behind is t/0 of source in: 1 record (position 5, end 6), read by nobody now.\n"},
		{"read", LagOf(1, at(5, -1), nil, end(5, 5, nil)), "  The partition is read to the end.\n"},
		{"held by a transaction", LagOf(1, at(5, -1), told(5, 7, false), end(12, 5, nil)), "… The furthest behind is t/0 of source in: 7 records (position 5, end 12), read by in/0 on tm-1. " +
			"It has read all that is committed: what follows offset 5 waits for a producer to end its transaction.\n"},
		{"unknown", LagOf(1, at(5, -1), nil, end(-1, -1, errors.New("down"))), "… How far t/0 of source in is behind is not known: the end of its log is not known: down.\n"},
	}
	for _, c := range cases {
		f := factsOf(job.Running, func(f *Facts) { f.Lag = c.lag })
		if got := render(f.lag()); got != c.want {
			t.Errorf("%s:\ngot  %swant %s", c.name, got, c.want)
		}
	}
	if text := render(factsOf(job.Canceled, func(f *Facts) { f.Lag = cases[1].lag }).lag()); strings.Contains(text, "nobody") {
		t.Errorf("of a job that has ended nobody is missed: %s", text)
	}
}
