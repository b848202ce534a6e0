package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// dataKind says what the records of a data set look like. All are plain ASCII and end in the number of the
// record, seqDigits of them, so that each value occurs once. Records are spread evenly over the partitions;
// every fourth of a partition is a warning. Timestamps rise by a millisecond every slabRecords.
type dataKind string

// The kinds.
const (
	// lines look like lines of a log: half is text that repeats, half is random. No key.
	lines dataKind = "lines"
	// objects are flat JSON objects of 8 fields. No key.
	//
	//	{"id":123,"level":"info","status":200,"durationMs":37,"region":"eu-central","user":"user-004711","msg":"…","seq":"000000000123"}
	//
	// level is info and status 200, or warn and 503; durationMs is from 0 to 999; msg is random letters and
	// digits that fill the value up to its size.
	objects dataKind = "objects"
	// keyed are lines with a key, one of keyedKeys, at random: key-00000000 and so on.
	keyed dataKind = "keyed"
)

const (
	infoText  = "level=info service=checkout region=eu-central msg=request finished status=200 "
	warnText  = "level=warn service=checkout region=eu-central msg=request repeated status=503 "
	infoStart = "level=info"
	seqDigits = 12
	// minValueBytes leaves room for the level and the number.
	minValueBytes = 2*len(infoStart) + 2*seqDigits
	warnOneIn     = 4
	// slabRecords share one allocation while a topic is filled.
	slabRecords = 1000
	// maxValueBytes leaves the noise room to vary.
	maxValueBytes = 32 << 10
	maxBatchSize  = 1000 << 10
	// objectBytes and keyedBytes are the sizes of their values.
	objectBytes = 160
	keyedBytes  = 100
	keyedKeys   = 100_000
	// lateAfterMs is where the json job draws a line.
	lateAfterMs = 250
)

// The compressions of a topic, in the words of compression.type.
const (
	noCompression = "none"
	lz4           = "lz4"
)

// datasetSpec is what a topic is filled with. Batches are of nearly 1 MB, before compression. How well lz4
// compresses them follows from the values: lines are half text that repeats and half slices of 64 KiB of noise,
// the data that the rivals in docs were measured with; 100-byte lines come to about a third of their size.
type datasetSpec struct {
	kind        dataKind
	valueBytes  int
	compression string
	records     int
}

func (s datasetSpec) String() string {
	return fmt.Sprintf("%d-byte %s, %s", s.valueBytes, s.kind, s.compression)
}

func isWarning(i int) bool { return (i/partitions)%warnOneIn == warnOneIn-1 }

// generator makes the records of one topic, the same ones in every run.
type generator struct {
	random *rand.Rand
	noise  []byte
	took   int // durationMs of the last object
}

func newGenerator() *generator {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	g := &generator{random: rand.New(rand.NewPCG(1, 2)), noise: make([]byte, 1<<16)}
	for i := range g.noise {
		g.noise[i] = letters[g.random.IntN(len(letters))]
	}
	return g
}

// fill writes the value of record i over all of value.
func (g *generator) fill(kind dataKind, value []byte, i int) {
	if kind == objects {
		g.object(value, i)
		return
	}
	text := infoText
	if isWarning(i) {
		text = warnText
	}
	half := len(value) / 2
	for at := 0; at < half; at += len(text) {
		copy(value[at:half], text)
	}
	g.scribble(value[half:])
	putSeq(value, i)
}

// scribble fills p with noise.
func (g *generator) scribble(p []byte) {
	copy(p, g.noise[g.random.IntN(len(g.noise)-len(p)):])
}

const objectEnd = `"}`

func (g *generator) object(value []byte, i int) {
	level, status := "info", 200
	if isWarning(i) {
		level, status = "warn", 503
	}
	g.took = g.random.IntN(1000)
	head := fmt.Appendf(value[:0], `{"id":%d,"level":"%s","status":%d,"durationMs":%d,"region":"eu-central","user":"user-%06d","msg":"`,
		i, level, status, g.took, g.random.IntN(1_000_000))
	tail := value[len(value)-len(`","seq":"`)-seqDigits-len(objectEnd):]
	g.scribble(value[len(head) : len(value)-len(tail)])
	copy(tail, `","seq":"`)
	copy(tail[len(tail)-len(objectEnd):], objectEnd)
	putSeq(tail[:len(tail)-len(objectEnd)], i)
}

// shortened appends what the json job makes of the last object, record i.
func (g *generator) shortened(out []byte, i int) []byte {
	out = fmt.Appendf(out, `{"durationMs":%d,"late":%t,"region":"eu-central","seq":"`, g.took, g.took > lateAfterMs)
	out = append(out, make([]byte, seqDigits)...)
	putSeq(out, i)
	return append(out, objectEnd...)
}

// putSeq writes the number of a record as the last digits of value.
func putSeq(value []byte, i int) { putDigits(value[len(value)-seqDigits:], i) }

// putDigits writes a number over all of digits.
func putDigits(digits []byte, i int) {
	for d := len(digits) - 1; d >= 0; d-- {
		digits[d] = byte('0' + i%10)
		i /= 10
	}
}

func seqOf(value []byte) (int, error) {
	if n := len(value); n > len(objectEnd) && string(value[n-len(objectEnd):]) == objectEnd {
		value = value[:n-len(objectEnd)]
	}
	if len(value) < seqDigits {
		return 0, fmt.Errorf("value of %d bytes, want at least %d", len(value), seqDigits)
	}
	return strconv.Atoi(string(value[len(value)-seqDigits:]))
}

// dataset is a filled topic with what the jobs make of it.
type dataset struct {
	datasetSpec
	topic  string
	all    digest  // a copy
	kept   digest  // what passes the filters, of objects what is made of them
	counts *counts // of keyed; else nil
}

// keyOf is the key of that index.
func keyOf(index int) []byte { return fmt.Appendf(nil, "key-%08d", index) }

func compressionOf(name string) kgo.CompressionCodec {
	if name == lz4 {
		return kgo.Lz4Compression()
	}
	return kgo.NoCompression()
}

// fillTopic creates the topic and writes the records, spread evenly.
func fillTopic(ctx context.Context, b *broker, topic string, spec datasetSpec) (*dataset, error) {
	if err := b.createTopic(ctx, topic); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(b.options(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchMaxBytes(maxBatchSize),
		kgo.ProducerBatchCompression(compressionOf(spec.compression)), kgo.ProducerLinger(10*time.Millisecond), kgo.MaxBufferedRecords(100_000))...)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	defer client.Close()
	f := newFiller(topic, spec)
	start := time.Now().Truncate(time.Millisecond)
	var failed produceError
	for i := 0; i < spec.records && failed.get() == nil; i += slabRecords {
		slab := f.slab(i, min(slabRecords, spec.records-i), start.Add(time.Duration(i/slabRecords)*time.Millisecond))
		for k := range slab {
			client.Produce(ctx, &slab[k], failed.note)
		}
	}
	if err := errors.Join(client.Flush(ctx), failed.get()); err != nil {
		return nil, fmt.Errorf("filling %s: %w", topic, err)
	}
	return f.data, nil
}

// filler makes the records and notes what the jobs are to make of them.
type filler struct {
	data *dataset
	gen  *generator
	keys [][]byte // of keyed
	out  []byte
}

func newFiller(topic string, spec datasetSpec) *filler {
	f := &filler{data: &dataset{topic: topic, datasetSpec: spec}, gen: newGenerator()}
	if spec.kind == keyed {
		f.data.counts = newCounts()
		for i := range keyedKeys {
			f.keys = append(f.keys, keyOf(i))
		}
	}
	return f
}

// slab makes n records from record number first on.
func (f *filler) slab(first, n int, at time.Time) []kgo.Record {
	values, slab := make([]byte, n*f.data.valueBytes), make([]kgo.Record, n)
	for k := range slab {
		i := first + k
		value := values[k*f.data.valueBytes : (k+1)*f.data.valueBytes : (k+1)*f.data.valueBytes]
		f.gen.fill(f.data.kind, value, i)
		slab[k] = kgo.Record{Value: value, Partition: int32(i % partitions), Timestamp: at}
		if f.data.kind == keyed {
			index := f.gen.random.IntN(keyedKeys)
			slab[k].Key = f.keys[index]
			f.data.counts.expect[index]++
		}
		f.note(&slab[k], i)
	}
	return slab
}

func (f *filler) note(r *kgo.Record, i int) {
	f.data.all.add(r.Partition, r.Key, r.Value, r.Timestamp.UnixMilli())
	if isWarning(i) {
		return
	}
	out := r.Value
	if f.data.kind == objects {
		f.out = f.gen.shortened(f.out[:0], i)
		out = f.out
	}
	f.data.kept.add(r.Partition, r.Key, out, r.Timestamp.UnixMilli())
}

// produceError keeps the first error of a producer.
type produceError struct {
	mu  sync.Mutex
	err error
}

func (p *produceError) note(_ *kgo.Record, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

func (p *produceError) get() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
