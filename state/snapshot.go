package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/sluice-stream/sluice/graph"
)

// A snapshot is, integers little endian:
//
//	magic "SLST", version uint16, length of the schema uint16, schema
//	maxParallelism uint32, number of key groups with entries uint32
//	per such group, rising: group uint32, entries uint32, bytes uint64
//	per group its entries: length of the key + 1 as uvarint (0: the null key), key, number as varint
//	CRC32C of all before uint32
//
// The directory lets a subtask of another parallelism find its groups without reading the others.
const (
	magic          = "SLST"
	version        = 1
	headBytes      = len(magic) + 2 + 2
	directoryBytes = 4 + 4 + 8
	checksumBytes  = 4
	// maxKeyGroups bounds what a snapshot may say (the largest maxParallelism of a job).
	maxKeyGroups = 32768
)

// ErrDamaged is in the chain of errors about a snapshot that is not what Snapshot wrote.
var ErrDamaged = errors.New("the state is damaged")

// Snapshot writes the whole table. The bytes belong to the caller.
func (t *Table) Snapshot() []byte {
	order, ends := t.byGroup()
	used, size := 0, headBytes+len(CountSchema)+8+checksumBytes
	for g, begin := 0, 0; g < len(ends); begin, g = ends[g], g+1 {
		if ends[g] > begin {
			used++
		}
	}
	size += used * directoryBytes
	for i := range t.entries {
		size += entryBytes(&t.entries[i])
	}
	out := make([]byte, 0, size)
	out = append(out, magic...)
	out = binary.LittleEndian.AppendUint16(out, version)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(CountSchema)))
	out = append(out, CountSchema...)
	out = binary.LittleEndian.AppendUint32(out, uint32(t.owned.Max))
	out = binary.LittleEndian.AppendUint32(out, uint32(used))
	directory := len(out)
	out = out[:directory+used*directoryBytes]
	begin := 0
	for g, end := range ends {
		if end == begin {
			continue
		}
		from := len(out)
		out = t.appendEntries(out, order[begin:end])
		d := out[directory : directory+directoryBytes]
		binary.LittleEndian.PutUint32(d, uint32(t.owned.First+g))
		binary.LittleEndian.PutUint32(d[4:], uint32(end-begin))
		binary.LittleEndian.PutUint64(d[8:], uint64(len(out)-from))
		directory += directoryBytes
		begin = end
	}
	return binary.LittleEndian.AppendUint32(out, checksum(out))
}

func (t *Table) appendEntries(out []byte, order []uint32) []byte {
	for _, i := range order {
		e := &t.entries[i]
		out = binary.AppendUvarint(out, uint64(e.length+1))
		out = append(out, t.key(e)...)
		out = binary.AppendVarint(out, e.number)
	}
	return out
}

func entryBytes(e *entry) int {
	zigzag := uint64(e.number)<<1 ^ uint64(e.number>>63)
	return uvarintBytes(uint64(e.length+1)) + max(int(e.length), 0) + uvarintBytes(zigzag)
}

func uvarintBytes(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func checksum(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// Restore adds what a snapshot, perhaps of another subtask, has in the table's range. A key that the
// table has already is an error, as a key has one owner. After an error the table is unusable.
func (t *Table) Restore(piece []byte) error {
	r, err := newReader(piece)
	if err != nil {
		return fmt.Errorf("restore state of %d bytes: %w", len(piece), err)
	}
	if r.max != t.owned.Max {
		return fmt.Errorf("restore state: it has %d key groups, the job %d: maxParallelism is frozen at the first checkpoint; set it back",
			r.max, t.owned.Max)
	}
	r.groups = slices.DeleteFunc(r.groups, func(g group) bool { return !t.owned.Contains(g.group) })
	keys := 0
	for _, g := range r.groups {
		keys += g.entries
	}
	t.reserve(keys)
	for _, g := range r.groups {
		if err := t.restoreGroup(g); err != nil {
			return fmt.Errorf("restore key group %d: %w", g.group, err)
		}
	}
	return nil
}

func (t *Table) restoreGroup(g group) error {
	p := g.data
	for range g.entries {
		key, number, rest, err := readEntry(p)
		if err != nil {
			return err
		}
		p = rest
		if own := graph.KeyGroup(key, t.owned.Max); own != g.group {
			return fmt.Errorf("key %.100q belongs to key group %d: %w", key, own, ErrDamaged)
		}
		hash := t.hash(key)
		slot, found := t.find(key, hash)
		if found {
			return fmt.Errorf("key %.100q comes twice: %w", key, ErrDamaged)
		}
		if err := t.insert(key, hash, slot, g.group, number); err != nil {
			return err
		}
	}
	if len(p) > 0 {
		return fmt.Errorf("%d bytes behind the last entry: %w", len(p), ErrDamaged)
	}
	return nil
}

func readEntry(p []byte) (key []byte, number int64, rest []byte, err error) {
	length, n := binary.Uvarint(p)
	if n <= 0 || length > uint64(len(p)-n)+1 || length > maxKeyBytes+1 {
		return nil, 0, nil, fmt.Errorf("an entry ends in the middle: %w", ErrDamaged)
	}
	p = p[n:]
	if length > 0 {
		key, p = p[:length-1:length-1], p[length-1:]
	}
	number, n = binary.Varint(p)
	if n <= 0 {
		return nil, 0, nil, fmt.Errorf("an entry ends in the middle: %w", ErrDamaged)
	}
	return key, number, p[n:], nil
}

// group is the part of a snapshot that belongs to one key group.
type group struct {
	group, entries int
	data           []byte
}

// reader is an opened snapshot: checksum and directory are found right.
type reader struct {
	max    int
	groups []group
}

func newReader(piece []byte) (*reader, error) {
	if len(piece) < headBytes+checksumBytes || string(piece[:len(magic)]) != magic {
		return nil, fmt.Errorf("it does not begin like a snapshot: %w", ErrDamaged)
	}
	body, sum := piece[:len(piece)-checksumBytes], binary.LittleEndian.Uint32(piece[len(piece)-checksumBytes:])
	if got := checksum(body); got != sum {
		return nil, fmt.Errorf("checksum %08x, want %08x: %w", got, sum, ErrDamaged)
	}
	if v := binary.LittleEndian.Uint16(body[len(magic):]); v != version {
		return nil, fmt.Errorf("it has version %d, this program reads %d: use the version of the program that wrote it", v, version)
	}
	schema := int(binary.LittleEndian.Uint16(body[len(magic)+2:]))
	body = body[headBytes:]
	if len(body) < schema+8 {
		return nil, fmt.Errorf("the head ends in the middle: %w", ErrDamaged)
	}
	if s := string(body[:schema]); s != CountSchema {
		return nil, fmt.Errorf("it holds %.100q, the operator keeps %q: it is of another operator", s, CountSchema)
	}
	body = body[schema:]
	r := &reader{max: int(binary.LittleEndian.Uint32(body))}
	return r, r.readDirectory(body[4:])
}

func (r *reader) readDirectory(body []byte) error {
	n := int(binary.LittleEndian.Uint32(body))
	body = body[4:]
	if r.max < 1 || r.max > maxKeyGroups || n > r.max || n*directoryBytes > len(body) {
		return fmt.Errorf("%d of %d key groups in %d bytes: %w", n, r.max, len(body), ErrDamaged)
	}
	directory, data := body[:n*directoryBytes], body[n*directoryBytes:]
	last := -1
	for ; len(directory) > 0; directory = directory[directoryBytes:] {
		g := group{group: int(binary.LittleEndian.Uint32(directory)), entries: int(binary.LittleEndian.Uint32(directory[4:]))}
		size := binary.LittleEndian.Uint64(directory[8:])
		// An entry has at least two bytes: what Restore reserves is bounded by what is there.
		if g.group <= last || g.group >= r.max || size > uint64(len(data)) || uint64(g.entries)*2 > size {
			return fmt.Errorf("directory names %d entries in %d bytes for key group %d: %w", g.entries, size, g.group, ErrDamaged)
		}
		g.data, data = data[:size], data[size:]
		r.groups, last = append(r.groups, g), g.group
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes behind the last key group: %w", len(data), ErrDamaged)
	}
	return nil
}
