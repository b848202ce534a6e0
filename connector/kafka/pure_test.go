package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// TestAssign: every split goes somewhere, nobody has two more than another, and the order in which splits
// are given does not matter.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []manifest.Position
		for _, topic := range []string{"a", "b", "b2"}[:rapid.IntRange(0, 3).Draw(t, "topics")] {
			for p := range rapid.Int32Range(0, 12).Draw(t, topic) {
				all = append(all, position(topic, p, int64(p), -1))
			}
		}
		n := rapid.IntRange(1, 20).Draw(t, "parallelism")
		given := all
		if len(all) > 0 {
			given = rapid.Permutation(all).Draw(t, "order")
		}
		before := slices.Clone(given)
		out := Assign(given, n)
		if !slices.Equal(given, before) {
			t.Fatal("the input was changed")
		}
		if len(out) != n {
			t.Fatalf("%d subtasks, want %d", len(out), n)
		}
		// the slow way: split i of the sorted list goes to i modulo n
		for i, p := range all {
			if at := out[i%n]; len(at) <= i/n || at[i/n] != p {
				t.Fatalf("split %d (%v) is not at %d in %v", i, p, i/n, at)
			}
		}
		total := 0
		for _, o := range out {
			total += len(o)
			if len(o) > (len(all)+n-1)/n {
				t.Fatalf("%d of %d splits at one of %d subtasks", len(o), len(all), n)
			}
		}
		if total != len(all) {
			t.Fatalf("%d of %d splits", total, len(all))
		}
	})
	if out := Assign(nil, 0); len(out) != 0 {
		t.Error(out)
	}
}

// TestMurmur2 has the vectors of Kafka's UtilsTest.testMurmur2.
func TestMurmur2(t *testing.T) {
	for text, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(text))); got != want {
			t.Errorf("%s gives %d, want %d", text, got, want)
		}
	}
}

func TestKeyPartition(t *testing.T) {
	kafkas := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "key")
		n := rapid.IntRange(1, 1000).Draw(t, "partitions")
		if key == nil {
			key = []byte{}
		}
		if got, want := keyPartition(key, int32(n)), kafkas.Partition(&kgo.Record{Key: key}, n); int(got) != want {
			t.Fatalf("partition %d, want %d", got, want)
		}
	})
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		ctx, cancel := context.WithCancel(t.Context())
		if err := b.acquire(ctx, 1000); err != nil { // nothing is used: more than all is allowed
			t.Fatal(err)
		}
		var order []int
		done := make(chan error, 3)
		for i, n := range []int64{60, 40} {
			go func() {
				err := b.acquire(ctx, n)
				order = append(order, i)
				done <- err
			}()
			synctest.Wait()
		}
		b.add(-950)
		synctest.Wait()
		if len(order) != 1 || order[0] != 1 { // 50 + 40 fits, 50 + 60 does not
			t.Fatalf("order %v", order)
		}
		b.add(-50)
		synctest.Wait()
		if len(order) != 2 || b.used != 100 {
			t.Fatalf("order %v, %d used", order, b.used)
		}
		b.add(20) // overdrawn
		go func() { done <- b.acquire(ctx, 1) }()
		b.add(-20)
		synctest.Wait()
		cancel()
		<-done
		<-done
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTrouble(t *testing.T) {
	var said []string
	tr := newTrouble(func(reason string) { said = append(said, reason) })
	tr.set("b/1", "gone")
	tr.set("b/1", "gone")
	tr.set("a/0", "away")
	tr.set("b/1", "far")
	tr.set("c/0", "")
	tr.set("a/0", "")
	tr.set("b/1", "")
	want := []string{"b/1: gone", "a/0: away (and 1 more)", "b/1: far", ""}
	if !slices.Equal(said, want) {
		t.Errorf("said %q", said)
	}
	newTrouble(nil).set("a", "b")
}

// TestEpochs compares with a model that counts by checkpoint.
func TestEpochs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEpochs()
		type modelled struct{ pending int }
		var model []*modelled // by epoch
		model = append(model, &modelled{})
		var batches []struct {
			number uint64
			epoch  int
		}
		reported := 0
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				batches = append(batches, struct {
					number uint64
					epoch  int
				}{e.enter(), len(model) - 1})
				model[len(model)-1].pending++
			case 1:
				if len(batches) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(batches)-1).Draw(t, "batch")
				b := batches[i]
				if rapid.Bool().Draw(t, "split") {
					e.again(b.number)
					model[b.epoch].pending++
					batches = append(batches, b)
					continue
				}
				model[b.epoch].pending--
				mayReport := e.leave(b.number)
				if b.epoch == reported && model[b.epoch].pending == 0 && b.epoch < len(model)-1 && !mayReport {
					t.Fatal("a report is due and not told of")
				}
				batches = slices.Delete(batches, i, i+1)
			case 2:
				e.seal(ident.CheckpointID(len(model)))
				model = append(model, &modelled{})
			case 3:
				id, ok := e.next()
				want := reported < len(model)-1 && model[reported].pending == 0
				if ok != want || ok && id != ident.CheckpointID(reported+1) {
					t.Fatalf("report %d, %v; want %d, %v", id, ok, reported+1, want)
				}
				if ok {
					reported++
				}
			}
		}
	})
}

func TestCheckpointNote(t *testing.T) {
	note := noteOf("j1", 42)
	if n, ok := checkpointIn(note, "j1"); !ok || n != 42 {
		t.Errorf("%s gives %d, %v", note, n, ok)
	}
	for _, other := range []string{"", "sluice:j2:42", "sluice:j1:", "sluice:j1:-1", "sluice:j1:x", "something else"} {
		if _, ok := checkpointIn(other, "j1"); ok {
			t.Errorf("%q is taken for a note", other)
		}
	}
}

// TestDue sorts out what is to be done now.
func TestDue(t *testing.T) {
	now := time.UnixMilli(1000)
	at := func(ms int64) *split { return &split{name: fmt.Sprint(ms), notBefore: time.UnixMilli(ms)} }
	ready, later, next := due([]*split{at(1500), at(1000), at(1200), {}}, now)
	if len(ready) != 2 || len(later) != 2 || !next.Equal(time.UnixMilli(1200)) {
		t.Errorf("%v, %v, %v", ready, later, next)
	}
}
