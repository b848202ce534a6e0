package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// old is a message as franz-go's encoder writes it.
type old struct {
	magic      int8
	offset     int64
	timestamp  int64
	attributes int8
	key, value []byte
}

func (o old) encode() []byte {
	size := minMessageSize - lengthOverhead + len(o.key) + len(o.value)
	var out []byte
	if o.magic == 0 {
		m := kmsg.MessageV0{Offset: o.offset, MessageSize: int32(size), Attributes: o.attributes, Key: o.key, Value: o.value}
		out = m.AppendTo(nil)
	} else {
		m := kmsg.MessageV1{Offset: o.offset, MessageSize: int32(size + timestampSize), Magic: 1, Timestamp: o.timestamp, Attributes: o.attributes, Key: o.key, Value: o.value}
		out = m.AppendTo(nil)
	}
	return resum(out)
}

// resum gives a message the checksum that belongs to it.
func resum(m []byte) []byte {
	binary.BigEndian.PutUint32(m[atMessageCRC:], crc32.ChecksumIEEE(m[atMagic:]))
	return m
}

func oldSet(messages ...old) []byte {
	var out []byte
	for _, m := range messages {
		out = append(out, m.encode()...)
	}
	return out
}

// packedSet compresses messages into one; its offset is outer.
func packedSet(t testing.TB, codec Codec, outer old, messages ...old) []byte {
	t.Helper()
	outer.value = compressed(t, codec, oldSet(messages...))
	if codec == LZ4 && outer.magic == 0 {
		breakFrameChecksum(outer.value)
	}
	outer.attributes |= int8(codec)
	return outer.encode()
}

// readOld gives the records of a set from an offset on, and the base offsets of the batches.
func readOld(t testing.TB, set []byte, from int64) (out []shown, bases []int64, err error) {
	t.Helper()
	f := newFeed(set)
	p := f.again()
	p.Topic, p.Partition, p.Offset = "t", 3, from
	promised := p.NextOffset()
	for {
		r, err := p.Next()
		if err != nil || r == nil {
			if err == nil && len(bases) > 0 && promised != p.next {
				t.Errorf("NextOffset says %d, the batches end at %d", promised, p.next)
			}
			p.Release()
			return out, bases, err
		}
		if err := r.Limit(from, -1); err != nil {
			t.Fatal(err)
		}
		bases = append(bases, r.BaseOffset)
		out = append(out, shownRecords(t, r)...)
		r.Release()
	}
}

// TestMessageSetsOfKafka08 reads what a broker of Kafka 0.8.2.2 had in its log, byte by byte: three records of the Scala
// console producer, three of franz-go (without a key, without a value, both empty) and three of the Java producer.
func TestMessageSetsOfKafka08(t *testing.T) {
	var java, scala []shown
	for i, n := range []string{"one", "two", "three"} {
		scala = append(scala, shown{Timestamp: -1, Key: fmt.Appendf(nil, "s%d", i+1), Value: []byte("scala " + n)})
		java = append(java, shown{Timestamp: -1, Key: fmt.Appendf(nil, "j%d", i+1), Value: []byte("java " + n)})
	}
	franz := []shown{{Timestamp: -1, Value: []byte("no key")}, {Timestamp: -1, Key: []byte("tombstone")}, {Timestamp: -1, Key: []byte{}, Value: []byte{}}}
	for codec, want := range map[Codec][]shown{
		None: slices.Concat(scala, franz, java), Gzip: slices.Concat(scala, java), Snappy: slices.Concat(scala, java), LZ4: java,
	} {
		t.Run(codec.String(), func(t *testing.T) {
			set, err := os.ReadFile(filepath.Join("testdata", "messageset", "v0-"+codec.String()+".bin"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				want[i].Offset = int64(i)
			}
			for from := range want {
				got, _, err := readOld(t, set, int64(from))
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want[from:], got); d != "" {
					t.Fatalf("from %d: %s", from, d)
				}
			}
		})
	}
}

// TestMessageSetV1 reads relative offsets, both kinds of timestamps, and gaps that compaction left.
func TestMessageSetV1(t *testing.T) {
	v := []byte("v")
	inner := []old{{magic: 1, offset: 0, timestamp: 50, value: v}, {magic: 1, offset: 2, timestamp: 40, key: v}, {magic: 1, offset: 3, timestamp: 60}}
	records := func(times ...int64) []shown {
		return []shown{{Offset: 97, Timestamp: times[0], Value: v}, {Offset: 99, Timestamp: times[1], Key: v}, {Offset: 100, Timestamp: times[2]}}
	}
	for codec := Gzip; codec <= LZ4; codec++ {
		set := packedSet(t, codec, old{magic: 1, offset: 100, timestamp: 60}, inner...)
		got, bases, err := readOld(t, set, 0)
		if err != nil || !slices.Equal(bases, []int64{97}) {
			t.Fatalf("%v: batches at %d, %v", codec, bases, err)
		}
		if d := cmp.Diff(records(50, 40, 60), got); d != "" {
			t.Errorf("%v: %s", codec, d)
		}
		appended := packedSet(t, codec, old{magic: 1, offset: 100, timestamp: 777, attributes: attrLogAppendTime}, inner...)
		got, _, err = readOld(t, appended, 99)
		if d := cmp.Diff(records(777, 777, 777)[1:], got); d != "" || err != nil {
			t.Errorf("%v, time of the broker: %v, %s", codec, err, d)
		}
	}
	plain := oldSet(old{magic: 1, offset: 5, timestamp: 9, value: v}, old{magic: 0, offset: 6, value: v}, old{magic: 1, offset: 9, timestamp: 3, attributes: attrLogAppendTime})
	got, bases, err := readOld(t, plain, 0)
	want := []shown{{Offset: 5, Timestamp: 9, Value: v}, {Offset: 6, Timestamp: -1, Value: v}, {Offset: 9, Timestamp: 3}}
	if d := cmp.Diff(want, got); d != "" || err != nil || !slices.Equal(bases, []int64{5}) {
		t.Errorf("plain: batches at %d, %v, %s", bases, err, d)
	}
}

// TestMixedFormats reads a log that was written through all versions of Kafka, cut at its end.
func TestMixedFormats(t *testing.T) {
	v := []byte("v")
	set := slices.Concat(
		oldSet(old{offset: 0, value: v}, old{offset: 1, value: v}),
		packedSet(t, Snappy, old{offset: 3}, old{offset: 2, value: v}, old{offset: 3, value: v}),
		oldSet(old{magic: 1, offset: 4, timestamp: 1, value: v}),
		packedSet(t, LZ4, old{magic: 1, offset: 6}, old{magic: 1, offset: 0, value: v}, old{magic: 1, offset: 1, value: v}),
		kmsgBatch(7, nil, kmsg.Record{Value: v}),
		oldSet(old{offset: 8, value: v}),
	)
	for cut := range 9 {
		for from := range int64(9) {
			got, bases, err := readOld(t, slices.Concat(set, oldSet(old{offset: 9, value: v})[:3*cut]), from)
			if err != nil || len(got) != int(9-from) || got[0].Offset != from {
				t.Fatalf("from %d: %d records, batches at %d, %v", from, len(got), bases, err)
			}
		}
	}
}

func TestMessageSetFaults(t *testing.T) {
	v := []byte("value")
	good := old{offset: 3, value: v}.encode()
	change := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	inner := old{offset: 3, value: v}
	raw := func(codec Codec, magic int8, set []byte) []byte {
		return old{magic: magic, offset: 3, attributes: int8(codec), value: compressed(t, codec, set)}.encode()
	}
	for name, c := range map[string]struct {
		set  []byte
		want string
	}{
		"checksum":            {change(len(good)-1, 0), "the message says"},
		"negative length":     {change(atLength, 0xff), "is impossible"},
		"negative offset":     {change(0, 0x80), "the offset is impossible"},
		"key too long":        {resum(change(atMessageBody, 0x10)), "key and value do not fill the message"},
		"negative key":        {resum(change(atMessageBody+3, 0xfe)), "key and value do not fill the message"},
		"codec zstd":          {old{offset: 3, attributes: int8(Zstd), value: v}.encode(), "compression codec 4 is unknown in message format v0"},
		"no compressed value": {old{offset: 3, attributes: int8(Gzip)}.encode(), "a compressed message without a value"},
		"not gzip":            {old{offset: 3, attributes: int8(Gzip), value: v}.encode(), "decompress gzip"},
		"not lz4":             {old{offset: 3, attributes: int8(LZ4), value: v}.encode(), "decompress lz4"},
		"empty set":           {raw(Gzip, 0, nil), "without messages"},
		"cut inner set":       {raw(Gzip, 0, inner.encode()[:20]), "ends within a message"},
		"damaged inner":       {raw(Gzip, 0, change(len(good)-1, 0)), "within a compressed message set: batch at offset 3: checksum"},
		"other format inside": {raw(Gzip, 1, inner.encode()), "a message of format v0 within a compressed one of v1"},
		"v2 inside":           {raw(Gzip, 1, kmsgBatch(0, nil, kmsg.Record{})), "message format v2 within a message set"},
		"compressed twice":    {raw(Gzip, 0, raw(Gzip, 0, inner.encode())), "a compressed message within a compressed one"},
		"offsets fall inside": {raw(Gzip, 0, oldSet(old{offset: 2}, old{offset: 1})), "offsets must rise"},
		"inner beyond outer":  {raw(Gzip, 0, oldSet(old{offset: 9})), "of offset 3 holds messages from 9 to 9"},
		"relative below zero": {raw(Gzip, 1, oldSet(old{magic: 1, offset: 0}, old{magic: 1, offset: 9})), "of offset 3 holds messages from -6 to 3"},
		"too far":             {raw(Gzip, 0, oldSet(old{offset: 0}, old{offset: 1 << 32})), "too far from the first message"},
		"offsets fall":        {slices.Concat(good, good), "offsets must rise"},
		"bomb":                {raw(Gzip, 0, make([]byte, MaxBatchBytes+1)), "above the limit"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := readOld(t, c.set, 0)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "t/3: ") {
				t.Fatalf("%v, want an error of t/3 with %q", err, c.want)
			}
		})
	}
}

// TestGoodBeforeBad gives what stands before a fault.
func TestGoodBeforeBad(t *testing.T) {
	bad := old{offset: 2, value: []byte("v")}.encode()
	bad[len(bad)-1] ^= 1
	got, _, err := readOld(t, slices.Concat(oldSet(old{offset: 0}, old{offset: 1}), bad), 0)
	if len(got) != 2 || err == nil || !strings.Contains(err.Error(), "t/3: batch at offset 2: checksum") {
		t.Errorf("%d records, %v", len(got), err)
	}
}

// TestRunsOfMessages splits long runs, and gives a message that is longer than a run whole.
func TestRunsOfMessages(t *testing.T) {
	var all []old
	for i := range 40 {
		all = append(all, old{offset: int64(i), value: make([]byte, 20_000)})
	}
	all = append(all, old{offset: 40, value: make([]byte, 2*runBytes)}, old{offset: 41})
	got, bases, err := readOld(t, oldSet(all...), 0)
	if err != nil || len(got) != 42 {
		t.Fatalf("%d records, %v", len(got), err)
	}
	if len(bases) < 5 || !slices.Contains(bases, 40) {
		t.Errorf("batches at %d", bases)
	}
}

// TestPassedOnAsV2 makes a whole batch of a message set: what a sink passes on unopened is v2.
func TestPassedOnAsV2(t *testing.T) {
	f := newFeed(packedSet(t, Gzip, old{offset: 11}, old{offset: 10, key: []byte("k"), value: []byte("a")}, old{offset: 11, value: []byte("b")}))
	p := f.again()
	r, err := p.Next()
	if err != nil {
		t.Fatal(err)
	}
	if !r.Whole() || r.Codec() != None || r.Count() != 2 {
		t.Fatalf("header %+v", r.Header)
	}
	data, err := r.Rewrite(nil, Producer{ID: 7, Epoch: 1, Sequence: 5, Transactional: true})
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := ParseBatch(data, NewDecompressor())
	if err != nil || again.ProducerID != 7 || !again.Transactional() {
		t.Fatal(err)
	}
	if got := shownRecords(t, again); len(got) != 2 || string(got[1].Value) != "b" || got[0].Timestamp != -1 {
		t.Errorf("%v", got)
	}
	r.Release()
	p.Release()
}

// FuzzMessageSet takes any bytes for a message set, and for what is compressed in one.
func FuzzMessageSet(f *testing.F) {
	v := []byte("value")
	for codec := None; codec <= LZ4; codec++ {
		for magic := range int8(2) {
			f.Add(byte(codec), magic == 1, oldSet(old{magic: magic, offset: 0, value: v}, old{magic: magic, offset: 1, key: v, timestamp: 9}))
		}
	}
	f.Add(byte(0), false, slices.Concat(oldSet(old{offset: 0}), kmsgBatch(1, nil, kmsg.Record{Value: v}), oldSet(old{offset: 2})[:20]))
	compressors, err := legacyCompressors()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, codec byte, v1 bool, set []byte) {
		for at := 0; len(set)-at > minMessageSize; { // the checksum would keep the fuzzer out
			n := int(int32(be32(set[at+atLength:]))) + lengthOverhead
			if n < minMessageSize || n > len(set)-at {
				break
			}
			if oldFormat(set[at:]) {
				resum(set[at : at+n])
			}
			at += n
		}
		if codec %= byte(LZ4 + 1); codec > 0 {
			packed, err := compressors[codec].Append(nil, set)
			if err != nil {
				t.Fatal(err)
			}
			outer := old{offset: 1 << 20, attributes: int8(codec), value: packed}
			if v1 {
				outer.magic = 1
			}
			set = outer.encode()
		}
		feed := newFeed(set)
		spent := allocated(func() { readSet(t, feed.again()) })
		if limit := uint64(16<<20 + 4000*len(set)); spent > limit {
			t.Fatalf("%d bytes were allocated for %d", spent, len(set))
		}
	})
}
