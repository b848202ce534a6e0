package jobmanager

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/publish"
)

// writing is a transaction that wrote to partitions of the topic out, from..to each.
func writing(id string, ranges ...[2]int64) manifest.Transaction {
	t := manifest.Transaction{TransactionalID: id, ProducerID: 7}
	for p, r := range ranges {
		t.Partitions = append(t.Partitions, manifest.TopicPartition{Topic: "out", Partition: int32(p), FirstOffset: r[0], LastOffset: r[1]})
	}
	return t
}

// at is a manifest with the next offsets of the topic in.
func at(id ident.CheckpointID, next []int64, transactions ...manifest.Transaction) *manifest.Manifest {
	m := &manifest.Manifest{Checkpoint: id, Transactions: transactions}
	for p, n := range next {
		m.Positions = append(m.Positions, manifest.Position{Split: manifest.Split{Source: "s", Topic: "in", Partition: int32(p)}, Next: n})
	}
	return m
}

var errFenced = errors.New("fenced [90]")

// refused is what the committer tells of a lost checkpoint.
func refused(id ident.CheckpointID, list ...manifest.Transaction) commit.Lost {
	l := commit.Lost{Checkpoint: id}
	for _, tx := range list {
		l.Transactions = append(l.Transactions, commit.LostTransaction{Transaction: tx, Err: errFenced})
	}
	return l
}

// TestLossOfSeveral: checkpoints of which something is lost are told together, whatever the order in which that was found
// out: the way back goes before all of them, the way on behind all that is committed.
func TestLossOfSeveral(t *testing.T) {
	a, b, c, d := writing("a", [2]int64{10, 19}), writing("b", [2]int64{20, 24}), writing("c", [2]int64{25, 27}), writing("d", [2]int64{28, 28})
	l := loss{
		job: "j", lost: []commit.Lost{refused(7, c), refused(5, a)},
		kept: []*manifest.Manifest{at(3, []int64{1}), at(4, []int64{80}, writing("old")), at(5, []int64{90}, a, writing("old")), at(6, []int64{95}, b), at(7, []int64{99}, b, c), at(8, []int64{100}, d)},
	}
	text := l.String()
	for _, want := range []string{
		"checkpoints 5, 7 are complete, but Kafka refused to commit 2 of their transactions (c: fenced [90]); ",
		"the output that is lost: out/0 offsets 25 to 27, out/0 offsets 10 to 19; its input is within in/0 offsets 80 to 98. ",
		"--from-checkpoint j/4` loses nothing and writes at most 6 records a second time; ",
		"--from-checkpoint j/8` writes nothing twice and loses at most 13 records",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %q", want, text)
		}
	}
}

func TestLossTells(t *testing.T) {
	a, b, unknown := writing("a", [2]int64{10, 19}, [2]int64{5, 5}), writing("b", [2]int64{20, 24}), writing("u", [2]int64{-1, -1})
	many := writing("m", make([][2]int64, 30)...)
	for _, test := range []struct {
		name       string
		lost       []manifest.Transaction
		at, before *manifest.Manifest
		want, not  []string
	}{
		{"known offsets", []manifest.Transaction{a}, at(5, []int64{100, 50}, a, b), at(4, []int64{80, 50}), []string{
			"checkpoint 5 is complete, but Kafka refused to commit 1 of its transactions (a: fenced [90]); ",
			"the output that is lost: out/0 offsets 10 to 19, out/1 offsets 5 to 5; ",
			"its input is within in/0 offsets 80 to 99. ",
			"--from-checkpoint j/4` loses nothing and writes at most 5 records a second time; ",
			"--from-checkpoint j/5` writes nothing twice and loses at most 11 records",
		}, []string{"in/1"}},
		{"all of it", []manifest.Transaction{a, b}, at(5, nil, a, b), at(4, nil), []string{
			"commit 2 of its transactions (a: fenced [90])", "j/4` loses nothing and writes at most 0 records", "loses at most 16 records",
		}, []string{"its input"}},
		{"unknown offsets", []manifest.Transaction{unknown}, at(5, nil, unknown, b), at(4, nil), []string{
			"out/0 offsets unknown", "loses an unknown number of records", "writes at most 5 records a second time",
		}, []string{"-1"}},
		{"unknown offsets of what is kept", []manifest.Transaction{b}, at(5, nil, unknown, b), at(4, nil), []string{
			"writes an unknown number of records a second time", "loses at most 5 records",
		}, nil},
		{"many partitions", []manifest.Transaction{many}, at(5, make([]int64, 30), many), at(4, nil), []string{
			"out/19 offsets 0 to 0, 10 more. ", "loses at most 30 records",
		}, []string{"out/20 "}},
		{"no predecessor", []manifest.Transaction{a}, at(5, []int64{9}, a), nil, []string{
			"--from-checkpoint j/5` writes nothing twice and loses at most 11 records",
		}, []string{"loses nothing", "its input"}},
		{"the checkpoint cannot be read", []manifest.Transaction{a}, nil, at(4, nil), []string{"--from-checkpoint j/5`", "out/0"}, []string{"j/4"}},
		{"a new partition", []manifest.Transaction{a}, at(5, []int64{10, 3}, a), at(4, []int64{8}), []string{"its input is within in/0 offsets 8 to 9. "}, []string{"in/1"}},
	} {
		l := loss{job: "j", lost: []commit.Lost{refused(5, test.lost...)}}
		for _, m := range []*manifest.Manifest{test.before, test.at} {
			if m != nil {
				l.kept = append(l.kept, m)
			}
		}
		text := l.String()
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in %q", test.name, want, text)
			}
		}
		for _, not := range test.not {
			if strings.Contains(text, not) {
				t.Errorf("%s: %q in %q", test.name, not, text)
			}
		}
	}
}

// TestLostIsNotAnnounced: two checkpoints were durable when the job manager died. The older one turns out to be committed, the
// newest to be lost: what is announced, and published, is the older one.
func TestLostIsNotAnnounced(t *testing.T) {
	m := open(t)
	r := submitted(t, m, exactJob(1))
	a, b := writing("a", [2]int64{1, 2}), writing("b", [2]int64{3, 4})
	r.earlier = at(7, nil, b)
	for _, ev := range []commit.Event{
		commit.Completed{Manifest: at(6, nil, a)}, commit.Completed{Manifest: r.earlier},
		commit.Committed{Key: b.Key(), Err: errFenced, Refused: true}, commit.Committed{Key: a.Key()},
	} {
		r.committer.Step(time.Now(), ev)
	}
	r.committer.Step(time.Now().Add(time.Minute), commit.Tick{})
	r.committer.Step(time.Now().Add(time.Minute), commit.Marked{Keys: []manifest.TransactionKey{a.Key()}})
	if s := r.committer.Status(); !r.committer.Settled() || s.Lost != 1 {
		t.Fatalf("the committer: %+v", s)
	}
	r.retention.waiting = true // nothing is dropped here
	if err := r.announce(t.Context(), commit.Announce{Checkpoint: 6}); err != nil || r.announced != 6 {
		t.Errorf("announced %d: %v", r.announced, err)
	}
	for _, ev := range r.queue {
		if p, ok := ev.(publish.Announced); ok && p.Manifest.Checkpoint == 7 {
			t.Error("the offsets of a lost checkpoint are published")
		}
	}
}
