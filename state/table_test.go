package state

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/graph"
)

// name tells null from empty in maps.
func name(key []byte) string {
	if key == nil {
		return "null"
	}
	return "=" + string(key)
}

func contents(t *Table) map[string]int64 {
	all := map[string]int64{}
	for key, n := range t.All() {
		all[name(key)] = n
	}
	return all
}

func whole(max int) Range { return Range{First: 0, Last: max - 1, Max: max} }

// TestTable compares with a map.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, model := NewTable(whole(7)), map[string]int64{}
		long := bytes.Repeat([]byte("long"), chunkBytes/3)
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			var key []byte
			switch kind := rapid.IntRange(0, 9).Draw(t, "kind"); kind {
			case 0:
			case 1:
				key = append(long, byte(rapid.IntRange(0, 3).Draw(t, "end")))
			default:
				key = []byte(rapid.StringMatching(`[a-e]{0,3}`).Draw(t, "key"))
			}
			delta := rapid.Int64Range(-1000, 1000).Draw(t, "delta")
			model[name(key)] += delta
			got, err := table.Add(key, delta)
			if err != nil || got != model[name(key)] {
				t.Fatalf("%s is %d, %v, want %d", name(key), got, err, model[name(key)])
			}
			if got, ok := table.Get(key); !ok || got != model[name(key)] {
				t.Fatalf("%s is read as %d, %t", name(key), got, ok)
			}
		}
		if got := contents(table); !maps.Equal(got, model) || table.Len() != len(model) {
			t.Fatalf("contents %v of %d, want %v", got, table.Len(), model)
		}
		if _, ok := table.Get([]byte("absent")); ok {
			t.Fatal("an absent key is found")
		}
	})
}

// TestAllByKeyGroup: groups rise, keys in the order of their arrival within.
func TestAllByKeyGroup(t *testing.T) {
	table := NewTable(whole(16))
	arrival := map[string]int{}
	for i := range 1000 {
		key := fmt.Appendf(nil, "%d", i)
		arrival[string(key)] = i
		if _, err := table.Add(key, 1); err != nil {
			t.Fatal(err)
		}
	}
	lastGroup, last, n := -1, -1, 0
	for key := range table.All() {
		group, i := graph.KeyGroup(key, 16), arrival[string(key)]
		if group < lastGroup || group == lastGroup && i < last {
			t.Fatalf("%s of group %d comes after group %d, number %d", key, group, lastGroup, last)
		}
		lastGroup, last = group, i
		n++
	}
	if n != 1000 {
		t.Fatalf("%d keys", n)
	}
	for range table.All() {
		break // an early end is no panic
	}
}

func TestForeignKey(t *testing.T) {
	table := NewTable(Range{First: 3, Last: 3, Max: 128})
	var refused int
	for i := range 200 {
		if _, err := table.Add(fmt.Appendf(nil, "%d", i), 1); err != nil {
			refused++
			if !strings.Contains(err.Error(), "wrong subtask") {
				t.Fatal(err)
			}
		}
	}
	if refused < 190 || refused+table.Len() != 200 {
		t.Errorf("%d refused, %d kept", refused, table.Len())
	}
	if _, err := NewTable(whole(1)).Add(make([]byte, maxKeyBytes+1), 1); err == nil {
		t.Error("a key larger than a record is kept")
	}
	if empty := RangeOf(3, 5, 2); empty.First > empty.Last {
		if got := NewTable(empty).Snapshot(); len(got) == 0 {
			t.Error("no snapshot of a subtask without key groups")
		}
	}
}

func TestNoAllocations(t *testing.T) {
	table := NewTable(whole(128))
	key := []byte("key")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := table.Add(key, 1); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%.1f allocations for a known key", n)
	}
}

// TestAddEach: many keys at once come to the same as one after the other, keys that are new among them.
func TestAddEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		together, single := NewTable(whole(7)), NewTable(whole(7))
		for range rapid.IntRange(1, 10).Draw(t, "batches") {
			var keys [][]byte
			for range rapid.IntRange(0, 3*aheadKeys).Draw(t, "keys") {
				key := []byte(rapid.StringMatching(`[a-e]{0,3}`).Draw(t, "key"))
				if len(key) == 3 && key[0] == 'e' {
					key = nil
				}
				keys = append(keys, key)
			}
			sums := make([]int64, len(keys))
			if err := together.AddEach(keys, 2, sums); err != nil {
				t.Fatal(err)
			}
			for i, key := range keys {
				if want, err := single.Add(key, 2); err != nil || sums[i] != want {
					t.Fatalf("%s is %d, %v, want %d", name(key), sums[i], err, want)
				}
			}
		}
		if got, want := contents(together), contents(single); !maps.Equal(got, want) {
			t.Fatalf("contents %v, want %v", got, want)
		}
	})
}

// BenchmarkAddRandom is a batch of keys at random from a table that is larger than the processor's caches.
func BenchmarkAddRandom(b *testing.B) {
	const batch = 1000
	for _, size := range []int{25_000, 1_000_000} {
		all, random := make([][]byte, size), rand.New(rand.NewPCG(1, 2))
		table := NewTable(whole(128))
		for i := range all {
			all[i] = fmt.Appendf(nil, "key-%08d", i)
		}
		sums := make([]int64, size)
		if err := table.AddEach(all, 1, sums); err != nil {
			b.Fatal(err)
		}
		keys := make([][]byte, batch)
		run := func(name string, add func() error) {
			b.Run(fmt.Sprintf("%s of %d", name, size), func(b *testing.B) {
				for range b.N / batch {
					for i := range keys {
						keys[i] = all[random.IntN(size)]
					}
					if err := add(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("single", func() error {
			for _, key := range keys {
				if _, err := table.Add(key, 1); err != nil {
					return err
				}
			}
			return nil
		})
		run("each", func() error { return table.AddEach(keys, 1, sums[:batch]) })
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, keys := filled(b, n), make([][]byte, n)
			for i := range keys {
				keys[i] = fmt.Appendf(nil, "key-%08d", i*7919%n)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := table.Add(keys[i%n], 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func filled(tb testing.TB, n int) *Table {
	table := NewTable(whole(128))
	for i := range n {
		if _, err := table.Add(fmt.Appendf(nil, "key-%08d", i), int64(i)); err != nil {
			tb.Fatal(err)
		}
	}
	return table
}
