// Package state holds the keyed state of operators and the form in which it goes into checkpoints.
// It is pure.
package state

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"

	"github.com/sluice-stream/sluice/graph"
)

// CountSchema names what a count keeps, here and in the identity of a job: one int64 per key.
const CountSchema = "count/1"

// Range is a range of key groups, both ends inclusive, out of Max.
type Range struct {
	First, Last int
	// Max is the job's maxParallelism.
	Max int
}

// RangeOf is the range that a subtask owns.
func RangeOf(subtask, parallelism, maxParallelism int) Range {
	first, last := graph.KeyGroupsOf(subtask, parallelism, maxParallelism)
	return Range{First: first, Last: last, Max: maxParallelism}
}

// Contains says whether the group is in the range.
func (r Range) Contains(group int) bool { return r.First <= group && group <= r.Last }

// String prints the range as messages do.
func (r Range) String() string {
	return fmt.Sprintf("key groups %d to %d of %d", r.First, r.Last, r.Max)
}

const (
	chunkBytes = 64 << 10
	// maxKeyBytes is the limit of a record (DESIGN section 9): no key can be longer.
	maxKeyBytes = 16 << 20
	// maxEntries keeps the index of an entry plus one in 32 bits.
	maxEntries = 1<<32 - 2
)

// entry is one key and its number. It holds no pointer, so that the garbage collector passes a table
// of millions over.
type entry struct {
	chunk, off uint32
	length     int32 // -1: the null key
	group      int32
	number     int64
}

// Table is a number for each key of a range of key groups: open addressing over entries in the order of
// arrival, keys in chunks, some 40 bytes and the key for each. Keys are never removed. The null key
// (nil) is a key of its own, apart from the empty one. A table has one owner.
type Table struct {
	owned   Range
	seed    maphash.Seed
	slots   []uint64 // the upper half of the hash, and the index in entries plus one; 0 is free
	entries []entry
	chunks  [][]byte
	ahead   ahead
}

// ahead is what is looked up together: see AddEach.
type ahead struct {
	hashes [aheadKeys]uint64
	found  [aheadKeys]uint32 // index in entries plus one, of the first slot where the key may be
	touch  byte
}

// aheadKeys is how many keys are looked up together: more than a processor can wait for at once.
const aheadKeys = 32

// NewTable makes an empty table.
func NewTable(owned Range) *Table {
	return &Table{owned: owned, seed: maphash.MakeSeed(), slots: make([]uint64, 16)}
}

// Len is the number of keys.
func (t *Table) Len() int { return len(t.entries) }

// Range is the range that the table owns.
func (t *Table) Range() Range { return t.owned }

// Add adds delta to the number of a key, which begins at 0, and returns the sum. It fails only for a key
// of a foreign key group, one that the sender should have sent elsewhere.
func (t *Table) Add(key []byte, delta int64) (int64, error) { return t.add(key, t.hash(key), delta) }

// AddEach is Add for many keys, one after the other; sums takes the results and is as long as keys. A large table is
// in memory, not in the processor's caches: the places of several keys are touched before the first is needed, so
// that they are waited for together.
func (t *Table) AddEach(keys [][]byte, delta int64, sums []int64) error {
	for len(keys) > 0 {
		n := min(len(keys), aheadKeys)
		t.lookAhead(keys[:n])
		for i, key := range keys[:n] {
			var err error
			if sums[i], err = t.add(key, t.ahead.hashes[i], delta); err != nil {
				return err
			}
		}
		keys, sums = keys[n:], sums[n:]
	}
	return nil
}

// lookAhead touches slots, entries and keys. Each loop has no step that waits for the one before.
func (t *Table) lookAhead(keys [][]byte) {
	a, mask := &t.ahead, len(t.slots)-1
	for i, key := range keys {
		a.hashes[i] = t.hash(key)
	}
	for i := range keys {
		a.found[i] = uint32(t.slots[int(a.hashes[i])&mask])
	}
	for i := range keys {
		if f := a.found[i]; f > 0 {
			a.touch += byte(t.entries[f-1].length)
		}
	}
	for i := range keys {
		if f := a.found[i]; f > 0 && t.entries[f-1].length > 0 {
			e := &t.entries[f-1]
			a.touch += t.chunks[e.chunk][e.off]
		}
	}
}

func (t *Table) add(key []byte, hash uint64, delta int64) (int64, error) {
	slot, found := t.find(key, hash)
	if !found {
		group := graph.KeyGroup(key, t.owned.Max)
		if !t.owned.Contains(group) {
			return 0, fmt.Errorf("key %.100q is of key group %d, the subtask has %s: it was sent to the wrong subtask", key, group, t.owned)
		}
		return delta, t.insert(key, hash, slot, group, delta)
	}
	e := &t.entries[uint32(t.slots[slot])-1]
	e.number += delta
	return e.number, nil
}

// Get is the number of a key, and whether it has one.
func (t *Table) Get(key []byte) (int64, bool) {
	slot, found := t.find(key, t.hash(key))
	if !found {
		return 0, false
	}
	return t.entries[uint32(t.slots[slot])-1].number, true
}

func (t *Table) hash(key []byte) uint64 { return maphash.Bytes(t.seed, key) }

// find returns the slot of the key, or the free one where it belongs.
func (t *Table) find(key []byte, hash uint64) (slot int, found bool) {
	mask := len(t.slots) - 1
	for slot = int(hash) & mask; ; slot = (slot + 1) & mask {
		s := t.slots[slot]
		if s == 0 {
			return slot, false
		}
		if s>>32 == hash>>32 && t.holds(&t.entries[uint32(s)-1], key) {
			return slot, true
		}
	}
}

func (t *Table) holds(e *entry, key []byte) bool {
	if e.length < 0 || key == nil {
		return e.length < 0 && key == nil
	}
	return int(e.length) == len(key) && bytes.Equal(t.key(e), key)
}

// key is the key of an entry; nil for null. It is valid as long as the table.
func (t *Table) key(e *entry) []byte {
	if e.length < 0 {
		return nil
	}
	end := e.off + uint32(e.length)
	return t.chunks[e.chunk][e.off:end:end]
}

func (t *Table) insert(key []byte, hash uint64, slot, group int, number int64) error {
	if len(t.entries) >= maxEntries {
		return fmt.Errorf("%d keys in %s: more do not fit into one subtask; raise the parallelism", len(t.entries), t.owned)
	}
	if len(key) > maxKeyBytes {
		return fmt.Errorf("key of %d bytes, more than the limit of %d", len(key), maxKeyBytes)
	}
	e := entry{length: -1, group: int32(group), number: number}
	if key != nil {
		e.length = int32(len(key))
		e.chunk, e.off = t.store(key)
	}
	t.entries = append(t.entries, e)
	t.slots[slot] = hash>>32<<32 | uint64(len(t.entries))
	if len(t.entries)*4 > len(t.slots)*3 {
		t.grow(len(t.slots) * 2)
	}
	return nil
}

func (t *Table) store(key []byte) (chunk, off uint32) {
	last := len(t.chunks) - 1
	if last < 0 || len(key) > cap(t.chunks[last])-len(t.chunks[last]) {
		t.chunks = append(t.chunks, make([]byte, 0, max(chunkBytes, len(key))))
		last++
	}
	off = uint32(len(t.chunks[last]))
	t.chunks[last] = append(t.chunks[last], key...)
	return uint32(last), off
}

// grow builds the slots anew. The slots keep only half of the hash, so keys are hashed again.
func (t *Table) grow(slots int) {
	t.slots = make([]uint64, slots)
	mask := slots - 1
	for i := range t.entries {
		hash := t.hash(t.key(&t.entries[i]))
		slot := int(hash) & mask
		for t.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		t.slots[slot] = hash>>32<<32 | uint64(i+1)
	}
}

// reserve makes room for more keys.
func (t *Table) reserve(keys int) {
	t.entries = slices.Grow(t.entries, keys)
	slots := len(t.slots)
	for (len(t.entries)+keys)*4 > slots*3 {
		slots *= 2
	}
	if slots > len(t.slots) {
		t.grow(slots)
	}
}

// All lists the keys with their numbers, by key group, within a group in the order of their arrival.
// The keys are valid as long as the table, and not to be changed.
func (t *Table) All() iter.Seq2[[]byte, int64] {
	return func(yield func([]byte, int64) bool) {
		order, _ := t.byGroup()
		for _, i := range order {
			if e := &t.entries[i]; !yield(t.key(e), e.number) {
				return
			}
		}
	}
}

// byGroup sorts the entries by key group; ends has, per group of the range, the end of its part of order.
func (t *Table) byGroup() (order []uint32, ends []int) {
	groups := t.owned.Last - t.owned.First + 1
	ends = make([]int, groups+1)
	for i := range t.entries {
		ends[int(t.entries[i].group)-t.owned.First+1]++
	}
	for g := range groups {
		ends[g+1] += ends[g]
	}
	order = make([]uint32, len(t.entries))
	for i := range t.entries {
		next := &ends[int(t.entries[i].group)-t.owned.First]
		order[*next] = uint32(i)
		*next++
	}
	return order, ends[:groups]
}
