package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// The stored form is
//
//	"SLMF" | version u8 | fields | CRC32C of all before, u32 little-endian
//
// with integers as varints (zigzag where they may be negative), text and bytes with their length in
// front, and lists with their count in front. One manifest has exactly one form.
const (
	magic = "SLMF"
	// Version is the newest form that Decode reads and the one that Encode writes. Version 1 knows no topic
	// ids.
	Version = 2
	// MaxEncodedBytes is the largest form that Decode accepts: 1 MiB of inline state and the positions
	// and transactions of the largest job leave ample room.
	MaxEncodedBytes = 64 << 20
)

// plainElements are so few positions, pieces of state and partitions of transactions that, with the longest names, they
// surely fit into MaxEncodedBytes.
const plainElements = MaxEncodedBytes / 4096

// CheckSize refuses what Decode would: a manifest that nobody can read must never become durable.
func CheckSize(m *Manifest) error {
	elements := len(m.Positions) + len(m.State) + len(m.Transactions)
	for i := range m.Transactions {
		elements += len(m.Transactions[i].Partitions)
	}
	if elements <= plainElements-inlineBytes(m)/4096 {
		return nil
	}
	if n := len(Encode(m)); n > MaxEncodedBytes {
		return fmt.Errorf("checkpoint %d takes %d bytes for %d positions, %d transactions and their partitions, at most %d can be stored: write to fewer partitions from each sink subtask, or lower the parallelism",
			m.Checkpoint, n, len(m.Positions), len(m.Transactions), MaxEncodedBytes)
	}
	return nil
}

// ErrDamaged is returned for bytes that are not what Encode wrote.
var ErrDamaged = errors.New("manifest is damaged")

// ErrVersion is returned for a manifest that a newer version of Sluice wrote.
var ErrVersion = errors.New("manifest was written by a newer version")

// Encode gives the stored form of m; equal manifests give equal bytes.
func Encode(m *Manifest) []byte {
	w := writer{b: make([]byte, 0, 256+64*len(m.Positions)+96*len(m.State)+192*len(m.Transactions)+inlineBytes(m))}
	w.b = append(w.b, magic...)
	w.b = append(w.b, Version)
	w.text(string(m.Job))
	w.uint(uint64(m.Checkpoint))
	w.uint(uint64(m.Fence.Epoch))
	w.uint(uint64(m.Fence.Attempt))
	w.text(m.Identity)
	w.time(m.TriggeredAt)
	w.time(m.CompletedAt)
	w.bool(m.Final)
	w.uint(uint64(len(m.Positions)))
	for i := range m.Positions {
		w.position(&m.Positions[i])
	}
	w.uint(uint64(len(m.State)))
	for i := range m.State {
		w.state(&m.State[i])
	}
	w.uint(uint64(len(m.Transactions)))
	for i := range m.Transactions {
		w.transaction(&m.Transactions[i])
	}
	return binary.LittleEndian.AppendUint32(w.b, crc32.Checksum(w.b, castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func inlineBytes(m *Manifest) int {
	n := 0
	for i := range m.State {
		n += len(m.State[i].Inline)
	}
	return n
}

// Decode reads what Encode wrote. It allocates in proportion to the input, whatever the input says.
// The manifest shares no memory with data. Errors are ErrDamaged or ErrVersion.
func Decode(data []byte) (*Manifest, error) {
	if len(data) > MaxEncodedBytes {
		return nil, fmt.Errorf("%d bytes, at most %d are read: %w", len(data), MaxEncodedBytes, ErrDamaged)
	}
	if len(data) < len(magic)+1+crc32.Size || string(data[:len(magic)]) != magic {
		return nil, fmt.Errorf("%d bytes that do not begin as a manifest does: %w", len(data), ErrDamaged)
	}
	body, sum := data[:len(data)-crc32.Size], binary.LittleEndian.Uint32(data[len(data)-crc32.Size:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("checksum is %08x, stored is %08x: %w", got, sum, ErrDamaged)
	}
	v := body[len(magic)]
	if v < 1 || v > Version {
		return nil, fmt.Errorf("version is %d, this program reads 1 to %d: %w", v, Version, ErrVersion)
	}
	r := reader{b: body[len(magic)+1:], version: v}
	m := r.manifest()
	if r.err == nil && len(r.b) > 0 {
		r.fail("trailing bytes")
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

type writer struct{ b []byte }

func (w *writer) uint(v uint64)  { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)    { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) text(s string)  { w.uint(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) bytes(p []byte) { w.uint(uint64(len(p))); w.b = append(w.b, p...) }

func (w *writer) bool(v bool) {
	if v {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// time writes seconds and nanoseconds, so that the zero time, which UnixNano cannot hold, survives.
func (w *writer) time(t time.Time) {
	w.int(t.Unix())
	w.uint(uint64(t.Nanosecond()))
}

func (w *writer) position(p *Position) {
	w.text(p.Source)
	w.text(p.Topic)
	w.int(int64(p.Partition))
	w.int(p.Next)
	w.int(int64(p.LeaderEpoch))
	w.int(p.Stop)
	if p.TopicID == (TopicID{}) {
		w.bytes(nil)
	} else {
		w.bytes(p.TopicID[:])
	}
}

func (w *writer) state(s *State) {
	w.text(s.Operator)
	w.text(s.Subtask.Vertex)
	w.int(int64(s.Subtask.Index))
	w.int(int64(s.FirstKeyGroup))
	w.int(int64(s.LastKeyGroup))
	w.int(s.SizeBytes)
	w.bytes(s.Inline)
	w.text(s.Blob.Name)
	w.int(s.Blob.SizeBytes)
	w.uint(uint64(s.Blob.CRC32C))
}

func (w *writer) transaction(t *Transaction) {
	w.text(t.Sink)
	w.int(int64(t.Subtask))
	w.text(t.Cluster)
	w.text(t.TransactionalID)
	w.int(t.ProducerID)
	w.int(int64(t.ProducerEpoch))
	w.time(t.StartedAt)
	w.int(t.TimeoutMs)
	w.uint(uint64(len(t.Partitions)))
	for _, p := range t.Partitions {
		w.text(p.Topic)
		w.int(int64(p.Partition))
		w.int(p.FirstOffset)
		w.int(p.LastOffset)
	}
}

// reader takes fields off b; after the first error it gives zero values.
type reader struct {
	b       []byte
	version byte
	err     error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s with %d bytes left: %w", what, len(r.b), ErrDamaged)
	}
	r.b = nil
}

func (r *reader) uint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > limit || n != uvarintLen(v) {
		r.fail("bad unsigned number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int(low, high int64) int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 || v < low || v > high || n != uvarintLen(uint64(v)<<1^uint64(v>>63)) {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// uvarintLen is the length of the only form of v that is accepted: the shortest.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func (r *reader) int16() int16 { return int16(r.int(math.MinInt16, math.MaxInt16)) }
func (r *reader) int32() int32 { return int32(r.int(math.MinInt32, math.MaxInt32)) }
func (r *reader) int64() int64 { return r.int(math.MinInt64, math.MaxInt64) }

// raw gives the next length-prefixed bytes; they alias the input.
func (r *reader) raw() []byte {
	n := r.uint(math.MaxInt)
	if n > uint64(len(r.b)) {
		r.fail("length beyond the end")
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) text() string { return string(r.raw()) }

func (r *reader) bytes() []byte { return append([]byte(nil), r.raw()...) }

func (r *reader) bool() bool {
	if len(r.b) == 0 || r.b[0] > 1 {
		r.fail("bad flag")
		return false
	}
	v := r.b[0] == 1
	r.b = r.b[1:]
	return v
}

func (r *reader) time() time.Time {
	sec, nsec := r.int64(), r.uint(999_999_999)
	if r.err != nil {
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// count reads the number of items of which each takes at least size bytes, so that a list never
// makes more room than the input could fill.
func (r *reader) count(size int) int {
	n := r.uint(math.MaxInt)
	if n > uint64(len(r.b)/size) {
		r.fail("more items than bytes")
		return 0
	}
	return int(n)
}

// The least sizes of list items: one byte for each field.
const (
	minPosition    = 6
	minState       = 10
	minTransaction = 10
	minPartition   = 4
)

func (r *reader) manifest() *Manifest {
	m := &Manifest{
		Job:         ident.JobID(r.text()),
		Checkpoint:  ident.CheckpointID(r.uint(math.MaxUint64)),
		Fence:       ident.Fence{Epoch: ident.LeaderEpoch(r.uint(math.MaxUint64)), Attempt: ident.Attempt(r.uint(math.MaxUint64))},
		Identity:    r.text(),
		TriggeredAt: r.time(),
		CompletedAt: r.time(),
		Final:       r.bool(),
	}
	m.Positions = list(r, minPosition, (*reader).position)
	m.State = list(r, minState, (*reader).state)
	m.Transactions = list(r, minTransaction, (*reader).transaction)
	return m
}

func list[T any](r *reader, size int, item func(*reader) T) []T {
	n := r.count(size)
	var items []T
	for range n {
		items = append(items, item(r))
		if r.err != nil {
			return nil
		}
	}
	return items
}

func (r *reader) position() Position {
	p := Position{
		Split: Split{Source: r.text(), Topic: r.text(), Partition: r.int32()},
		Next:  r.int64(), LeaderEpoch: r.int32(), Stop: r.int64(),
	}
	if r.version > 1 {
		p.TopicID = r.topicID()
	}
	return p
}

// topicID reads none or all of the bytes; all of them zero would be a second form of none.
func (r *reader) topicID() (id TopicID) {
	p := r.raw()
	if len(p) == 0 {
		return id
	}
	if copy(id[:], p); len(p) != len(id) || id == (TopicID{}) {
		r.fail("bad topic id")
	}
	return id
}

func (r *reader) state() State {
	return State{
		Operator:      r.text(),
		Subtask:       ident.Subtask{Vertex: r.text(), Index: int(r.int32())},
		FirstKeyGroup: int(r.int32()), LastKeyGroup: int(r.int32()),
		SizeBytes: r.int64(),
		Inline:    r.bytes(),
		Blob:      Blob{Name: r.text(), SizeBytes: r.int64(), CRC32C: uint32(r.uint(math.MaxUint32))},
	}
}

func (r *reader) transaction() Transaction {
	return Transaction{
		Sink: r.text(), Subtask: int(r.int32()), Cluster: r.text(), TransactionalID: r.text(),
		ProducerID: r.int64(), ProducerEpoch: r.int16(),
		StartedAt: r.time(), TimeoutMs: r.int64(),
		Partitions: list(r, minPartition, func(r *reader) TopicPartition {
			return TopicPartition{Topic: r.text(), Partition: r.int32(), FirstOffset: r.int64(), LastOffset: r.int64()}
		}),
	}
}
