package manifest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-stream/sluice/ident"
)

// random makes a manifest with every kind of value, extreme ones too.
func random(rng *rand.Rand) *Manifest {
	text := func() string { return string(bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(20))) }
	num := func() int64 {
		return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, rng.Int64(), -rng.Int64N(1000)}[rng.IntN(7)]
	}
	n32 := func() int32 { return []int32{0, -1, math.MaxInt32, math.MinInt32, rng.Int32()}[rng.IntN(5)] }
	when := func() time.Time {
		return []time.Time{{}, time.Unix(0, 0).UTC(), time.Unix(rng.Int64N(1<<33), rng.Int64N(1e9)).UTC()}[rng.IntN(3)]
	}
	m := &Manifest{Job: ident.JobID(text()), Checkpoint: ident.CheckpointID(rng.Uint64()), Identity: text(),
		Fence:       ident.Fence{Epoch: ident.LeaderEpoch(rng.Uint64()), Attempt: ident.Attempt(rng.Uint64N(9))},
		TriggeredAt: when(), CompletedAt: when(), Final: rng.IntN(2) == 0}
	for range rng.IntN(4) {
		m.Positions = append(m.Positions, Position{Split: Split{text(), text(), n32()}, Next: num(), LeaderEpoch: n32(), Stop: num(),
			TopicID: []TopicID{{}, {1, 2, 3}, {15: 255}}[rng.IntN(3)]})
	}
	for range rng.IntN(4) {
		s := State{Operator: text(), Subtask: ident.Subtask{Vertex: text(), Index: int(n32())}, FirstKeyGroup: int(n32()), LastKeyGroup: int(n32()),
			SizeBytes: num(), Blob: Blob{text(), num(), rng.Uint32()}}
		if n := rng.IntN(50); n > 0 {
			s.Inline = bytes.Repeat([]byte{1}, n)
		}
		m.State = append(m.State, s)
	}
	for range rng.IntN(4) {
		t := Transaction{Sink: text(), Subtask: int(n32()), Cluster: text(), TransactionalID: text(), ProducerID: num(),
			ProducerEpoch: int16(rng.Uint32()), StartedAt: when(), TimeoutMs: num()}
		for range rng.IntN(3) {
			t.Partitions = append(t.Partitions, TopicPartition{text(), n32(), num(), num()})
		}
		m.Transactions = append(m.Transactions, t)
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		m := random(rng)
		b := Encode(m)
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.Equal(Encode(got), b) {
			t.Fatal("the same manifest has two forms")
		}
	}
}

// The zone of a time is no part of the manifest.
func TestFormDoesNotDependOnTheZone(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("x", 3600))
	if !bytes.Equal(Encode(&Manifest{TriggeredAt: at}), Encode(&Manifest{TriggeredAt: at.UTC()})) {
		t.Error("two forms of one moment")
	}
}

func TestEveryFlippedBitAndEveryCutIsNoticed(t *testing.T) {
	b := Encode(random(rand.New(rand.NewPCG(9, 9))))
	for i := range b {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[i] ^= 1 << bit
			if _, err := Decode(c); !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
		if _, err := Decode(b[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

// sealed gives any body a right checksum, so that the fields behind it are reached.
func sealed(body []byte) []byte {
	b := append([]byte(magic+"\x02"), body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func TestRefusedForms(t *testing.T) {
	good := Encode(&Manifest{})
	body := good[len(magic)+1 : len(good)-4]
	newer := []byte(magic + "\x03")
	newer = binary.LittleEndian.AppendUint32(newer, crc32.Checksum(newer, castagnoli))
	if _, err := Decode(newer); !errors.Is(err, ErrVersion) {
		t.Errorf("newer version: %v", err)
	}
	for name, b := range map[string][]byte{
		"too large": make([]byte, MaxEncodedBytes+1), "trailing bytes": sealed(append(bytes.Clone(body), 0)),
		"long form of a number": sealed(append([]byte{0x80, 0}, body[1:]...)),
		"length beyond the end": sealed([]byte{200, 1}), "short topic id": sealed(position(1, 2, 3)), "topic id of zeros": sealed(position(make([]byte, 16)...)), "count beyond the end": sealed(append(bytes.Clone(body[:len(body)-1]), 100)),
	} {
		if _, err := Decode(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// position is the body of a manifest with one position of this topic id.
func position(id ...byte) []byte {
	body := Encode(&Manifest{Positions: []Position{{}}})
	body = body[len(magic)+1 : len(body)-4-3] // without id, states, transactions
	return append(append(append(body, byte(len(id))), id...), 0, 0)
}

// What a release wrote that knew no topic ids is read: they are unknown.
func TestVersion1(t *testing.T) {
	want := &Manifest{Job: "j", Positions: []Position{{Split: Split{"s", "t", 3}, Next: 7, LeaderEpoch: 2, Stop: -1}}}
	b := Encode(want)
	body := append(bytes.Clone(b[:len(b)-4-3]), 0, 0)
	body[len(magic)] = 1
	got, err := Decode(binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli)))
	if err != nil {
		t.Fatal(err)
	}
	want.TriggeredAt, want.CompletedAt = got.TriggeredAt, got.CompletedAt // the zero time, in UTC
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTopicID(t *testing.T) {
	if text := (TopicID{}).String(); text != "" {
		t.Errorf("unknown id is %q", text)
	}
	id := TopicID{0xfb, 0xff, 15: 1} // as Kafka's Uuid prints it
	if text := id.String(); text != "-_8AAAAAAAAAAAAAAAAAAQ" {
		t.Errorf("id is %q", text)
	}
}

func FuzzDecode(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 5))
	for range 20 {
		b := Encode(random(rng))
		f.Add(b[len(magic)+1 : len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := sealed(body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := Decode(b)
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<10+uint64(len(b))*100 {
			t.Errorf("%d bytes made it allocate %d", len(b), grown)
		}
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(Encode(m), b) {
			t.Error("accepted a form that Encode does not write")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	m := &Manifest{}
	for i := range 1000 {
		m.Positions = append(m.Positions, Position{Split: Split{"orders", "orders", int32(i)}, Next: 1 << 40, Stop: -1})
	}
	b.ReportAllocs()
	for b.Loop() {
		Encode(m)
	}
}

// TestCheckSize: what could not be read again is refused before it is written.
func TestCheckSize(t *testing.T) {
	wide := func(transactions, partitions int) *Manifest {
		m := &Manifest{Job: "j", Checkpoint: 7}
		for range transactions {
			m.Transactions = append(m.Transactions, Transaction{Sink: "out", TransactionalID: "id", Partitions: make([]TopicPartition, partitions)})
		}
		for i := range m.Transactions {
			for k := range m.Transactions[i].Partitions {
				m.Transactions[i].Partitions[k] = TopicPartition{Topic: strings.Repeat("t", 60), Partition: int32(k), FirstOffset: 1 << 40, LastOffset: 1 << 41}
			}
		}
		return m
	}
	if err := CheckSize(wide(10, 1000)); err != nil {
		t.Errorf("a large one: %v", err)
	}
	if err := CheckSize(wide(100, 1000)); err != nil {
		t.Errorf("a very large one: %v", err)
	}
	err := CheckSize(wide(1000, 1000))
	if err == nil || !strings.Contains(err.Error(), "checkpoint 7 takes") {
		t.Errorf("one that Decode refuses: %v", err)
	}
}
