package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/graph"
)

// TestRescale: whatever the parallelism before and after, the pieces hold every key once.
func TestRescale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		max := rapid.IntRange(1, 40).Draw(t, "maxParallelism")
		before := rapid.IntRange(1, max).Draw(t, "parallelism before")
		after := rapid.IntRange(1, max).Draw(t, "parallelism after")
		model := map[string]int64{}
		tables := make([]*Table, before)
		for i := range tables {
			tables[i] = NewTable(RangeOf(i, before, max))
		}
		keys := rapid.SliceOf(rapid.StringMatching(`[a-h]{0,4}`)).Draw(t, "keys")
		for i := range len(keys) + 1 {
			var key []byte
			if i < len(keys) {
				key = []byte(keys[i])
			}
			delta := rapid.Int64().Draw(t, "delta")
			owner := graph.SubtaskOfKeyGroup(graph.KeyGroup(key, max), before, max)
			n, err := tables[owner].Add(key, delta)
			if err != nil {
				t.Fatal(err)
			}
			model[name(key)] = n
		}
		got := map[string]int64{}
		for i := range after {
			table := NewTable(RangeOf(i, after, max))
			for _, old := range tables {
				if err := table.Restore(old.Snapshot()); err != nil {
					t.Fatal(err)
				}
			}
			for key, n := range contents(table) {
				if _, twice := got[key]; twice {
					t.Fatalf("key %s is in two tables", key)
				}
				got[key] = n
			}
		}
		if !maps.Equal(got, model) {
			t.Fatalf("restored %v, want %v", got, model)
		}
	})
}

// TestSnapshotRepeats: a restored table writes the same bytes, in one allocation of the right size.
func TestSnapshotRepeats(t *testing.T) {
	first := filled(t, 5000).Snapshot()
	if len(first) != cap(first) {
		t.Errorf("%d bytes in a buffer of %d", len(first), cap(first))
	}
	table := NewTable(whole(128))
	if err := table.Restore(first); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(table.Snapshot(), first) {
		t.Error("the snapshot of the restored table differs")
	}
}

// sealed sets the checksum right.
func sealed(p []byte) []byte {
	body := p[:len(p)-checksumBytes]
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), checksum(body))
}

// small has the keys of one group of two.
func small(t *testing.T) []byte {
	table := NewTable(whole(2))
	for _, key := range []string{"a", "b", "c", "d"} {
		if _, err := table.Add([]byte(key), 7); err != nil {
			t.Fatal(err)
		}
	}
	return table.Snapshot()
}

func TestRestoreRefuses(t *testing.T) {
	directory := headBytes + len(CountSchema) + 8
	tests := []struct {
		name    string
		damage  func(p []byte) []byte
		want    string
		damaged bool
	}{
		{"nothing", func([]byte) []byte { return nil }, "does not begin like a snapshot", true},
		{"something else", func([]byte) []byte { return []byte("hello, this is no snapshot") }, "does not begin like a snapshot", true},
		{"cut", func(p []byte) []byte { return p[:len(p)-1] }, "checksum", true},
		{"newer version", func(p []byte) []byte { p[4] = 2; return sealed(p) }, "version 2, this program reads 1", false},
		{"other schema", func(p []byte) []byte { p[headBytes] = 'm'; return sealed(p) }, `it holds "mount/1"`, false},
		{"schema without end", func(p []byte) []byte { p[6] = 0xff; return sealed(p) }, "the head ends", true},
		{"no key groups", func(p []byte) []byte { p[headBytes+len(CountSchema)] = 0; return sealed(p) }, "2 of 0 key groups", true},
		{"other maxParallelism", func(p []byte) []byte { p[headBytes+len(CountSchema)] = 3; return sealed(p) }, "it has 3 key groups, the job 2", false},
		{"many groups", func(p []byte) []byte { p[headBytes+len(CountSchema)+4] = 200; return sealed(p) }, "200 of 2 key groups", true},
		{"group too large", func(p []byte) []byte { p[directory] = 2; return sealed(p) }, "for key group 2", true},
		{"groups in disorder", func(p []byte) []byte { p[directory+directoryBytes] = 0; return sealed(p) }, "for key group 0", true},
		{"many entries", func(p []byte) []byte { p[directory+7] = 0xff; return sealed(p) }, "directory names", true},
		{"few entries", func(p []byte) []byte { p[directory+4]--; return sealed(p) }, "behind the last entry", true},
		{"many bytes", func(p []byte) []byte { p[directory+15] = 0xff; return sealed(p) }, "directory names", true},
		{"more at the end", func(p []byte) []byte { return sealed(append(p, 0)) }, "behind the last key group", true},
		{"other key", func(p []byte) []byte { p[bytes.LastIndexByte(p, 'd')] = 'a'; return sealed(p) }, "", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := NewTable(whole(2)).Restore(test.damage(small(t)))
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, ErrDamaged) != test.damaged {
				t.Errorf("error %v, want %s, damaged %t", err, test.want, test.damaged)
			}
		})
	}
}

// TestEveryBit: no damage of one bit goes unnoticed.
func TestEveryBit(t *testing.T) {
	p := small(t)
	for i := range len(p) * 8 {
		p[i/8] ^= 1 << (i % 8)
		if NewTable(whole(2)).Restore(p) == nil {
			t.Fatalf("bit %d may be wrong", i)
		}
		p[i/8] ^= 1 << (i % 8)
	}
}

// TestTwice: a key of two pieces is a fault of whoever chose them.
func TestTwice(t *testing.T) {
	table, p := NewTable(whole(2)), small(t)
	if err := table.Restore(p); err != nil {
		t.Fatal(err)
	}
	if err := table.Restore(p); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "comes twice") {
		t.Errorf("error %v", err)
	}
}

func FuzzRestore(f *testing.F) {
	table := NewTable(whole(4))
	for _, key := range []string{"", "a", "key", strings.Repeat("x", 300)} {
		if _, err := table.Add([]byte(key), 1<<40); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(table.Snapshot())
	f.Add(NewTable(whole(4)).Snapshot())
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) >= checksumBytes {
			p = sealed(p)
		}
		table := NewTable(whole(4))
		err := table.Restore(p)
		if room := cap(table.entries) + len(table.slots)/4; room > 64+4*len(p) {
			t.Fatalf("room for %d keys is made for a snapshot of %d bytes", room, len(p))
		}
		if err != nil {
			return
		}
		again := NewTable(whole(4))
		if err := again.Restore(table.Snapshot()); err != nil || !maps.Equal(contents(again), contents(table)) {
			t.Fatalf("%v, contents %v, want %v", err, contents(again), contents(table))
		}
	})
}

func BenchmarkSnapshot100k(b *testing.B) {
	table := filled(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(table.Snapshot())))
	}
}

func BenchmarkRestore100k(b *testing.B) {
	p := filled(b, 100_000).Snapshot()
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if err := NewTable(whole(128)).Restore(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory prints the memory per key beside a map's.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		const n = 1_000_000
		start := heap()
		table := filled(b, n)
		b.ReportMetric(float64(heap()-start)/n, "table-B/key")
		runtime.KeepAlive(table)
		start = heap()
		m := map[string]int64{}
		for key, v := range table.All() {
			m[string(key)] = v
		}
		b.ReportMetric(float64(heap()-start)/n, "map-B/key")
		runtime.KeepAlive(m)
		runtime.KeepAlive(table)
	}
}
