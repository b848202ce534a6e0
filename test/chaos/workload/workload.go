// Package workload is what the fault suite lets a cluster do: four jobs, their topics, a generator of
// input, and a model of each job that says what must come out. It uses nothing of the product.
package workload

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// Kind is one of the four jobs.
type Kind string

// The jobs. Each reads an ordinary and a compacted topic, and all but D stamp what comes out (see Stamp).
const (
	// A is a stateless map that keeps the partition. No exchange.
	A Kind = "A"
	// B is a running count per key: a hash exchange and keyed state.
	B Kind = "B"
	// C drops one record in ten and makes none to three of any other, behind a hash exchange to twice the
	// parallelism of the source.
	C Kind = "C"
	// D copies both topics, batches unopened where that is possible. Only faults that name it run it.
	D Kind = "D"
)

// Parse reads the name of a kind.
func Parse(name string) (Kind, error) {
	switch k := Kind(name); k {
	case A, B, C, D:
		return k, nil
	}
	return "", fmt.Errorf("workload %q is unknown, want A | B | C | D", name)
}

// ForSeed rotates the kinds with the seed, all but D.
func ForSeed(seed int64) Kind { return []Kind{A, B, C}[uint64(seed)%3] }

// Params are what a run chooses.
type Params struct {
	// Name is the name of the job and the prefix of its topics; unique in a cluster.
	Name string
	// Brokers is bootstrap.servers as the job sees it.
	Brokers string
	// Partitions of each topic; default 8.
	Partitions int32
	// Replication of each topic; default 1. From 3 on min.insync.replicas is 2.
	Replication int16
	// Parallelism of the sources; default 2. See Workload.Slots.
	Parallelism int
	// Guarantee of the sink; default exactly-once.
	Guarantee string
	// CheckpointInterval; default 1 s.
	CheckpointInterval time.Duration
	// CheckpointTimeout; default 10 s.
	CheckpointTimeout time.Duration
	// Retain is how many checkpoints are kept; 0: as many as by default.
	Retain int
	// TransactionTimeout is transaction.timeout.ms of the sink; default 60 s. Exactly-once only.
	TransactionTimeout time.Duration
	// OffsetStorage is where the sources publish their offsets; default kafka.
	OffsetStorage string
	// SourceProperties and SinkProperties are further Kafka properties.
	SourceProperties, SinkProperties map[string]string
}

// Workload is a job of one kind with its parameters.
type Workload struct {
	kind   Kind
	params Params
}

// New fills in the defaults.
func New(kind Kind, p Params) (*Workload, error) {
	if _, err := Parse(string(kind)); err != nil {
		return nil, err
	}
	if p.Name == "" || p.Brokers == "" {
		return nil, fmt.Errorf("workload %s needs a name and brokers, has %q and %q", kind, p.Name, p.Brokers)
	}
	p.Partitions = orDefault(p.Partitions, 8)
	p.Replication = orDefault(p.Replication, 1)
	p.Parallelism = orDefault(p.Parallelism, 2)
	p.Guarantee = orDefault(p.Guarantee, "exactly-once")
	p.CheckpointInterval = orDefault(p.CheckpointInterval, time.Second)
	p.CheckpointTimeout = orDefault(p.CheckpointTimeout, 10*time.Second)
	p.TransactionTimeout = orDefault(p.TransactionTimeout, time.Minute)
	p.OffsetStorage = orDefault(p.OffsetStorage, "kafka")
	return &Workload{kind: kind, params: p}, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Kind is the kind of the job.
func (w *Workload) Kind() Kind { return w.kind }

// Params are the parameters with the defaults filled in.
func (w *Workload) Params() Params { return w.params }

// In, Compacted and Out are the topics.
func (w *Workload) In() string { return w.params.Name + "-in" }

// Compacted is the second input topic: 5 % of the records, compacted by the broker.
func (w *Workload) Compacted() string { return w.params.Name + "-compacted" }

// Out is the topic of the sink.
func (w *Workload) Out() string { return w.params.Name + "-out" }

// Slots is how many slots the job needs: its largest parallelism.
func (w *Workload) Slots() int {
	if w.kind == C {
		return 2 * w.params.Parallelism
	}
	return w.params.Parallelism
}

// Record is one record of the input.
type Record struct {
	Topic     string
	Partition int32
	Offset    int64
	Key       []byte
	Value     []byte
}

// Output is one record that must come out of one of the input: its key, and its value unless the job
// counts (see Counted).
type Output struct {
	Key   []byte
	Value []byte
}

// Expected is the model: what must come out of a record, in order; the index is the emit number.
func (w *Workload) Expected(r Record) ([]Output, error) {
	v, err := ParseValue(r.Value)
	if err != nil {
		return nil, err
	}
	switch {
	case w.kind == A, w.kind == D:
		return []Output{{Key: r.Key, Value: r.Value}}, nil
	case w.kind == B:
		return []Output{{Key: r.Key}}, nil
	case v.Fan == Filtered:
		return nil, nil
	}
	outputs := make([]Output, v.Fan)
	for i := range outputs {
		outputs[i] = Output{Key: r.Key, Value: append(strconv.AppendInt(nil, int64(i), 10), append([]byte{separator}, r.Value...)...)}
	}
	return outputs, nil
}

// Counted tells that the value of an output is the running count of its key, 1, 2, 3, … in the order of the
// output partition, as decimal text.
func (w *Workload) Counted() bool { return w.kind == B }

// OrderPerKey tells how far the job keeps order: of all records of a source partition that reach the same
// output partition (false), or only of those of the same key (true), as different subtasks handle the keys.
func (w *Workload) OrderPerKey() bool { return w.kind == B || w.kind == C }

// Stamp is where an output came from: topic, partition and offset of its source record, and the emit number
// among the outputs of that record. The job writes it into two headers: "src" is topic/partition/offset and
// "emit" the number, both as text.
type Stamp struct {
	Topic     string
	Partition int32
	Offset    int64
	Emit      int
}

// Stamped tells that the outputs have a stamp. Those of a copy have none: what they are says their value (see Origin).
func (w *Workload) Stamped() bool { return w.kind != D }

// compactedFrom is where the Seq of the compacted topic begins, so that a value says of which topic it is.
const compactedFrom = 1 << 40

// Origin is the topic that a value of the input was written to.
func (w *Workload) Origin(v Value) string {
	if v.Seq >= compactedFrom {
		return w.Compacted()
	}
	return w.In()
}

// The headers of an output.
const (
	HeaderSource = "src"
	HeaderEmit   = "emit"
)

// ParseStamp reads the two headers.
func ParseStamp(source, emit []byte) (Stamp, error) {
	parts := bytes.Split(source, []byte("/"))
	if len(parts) != 3 {
		return Stamp{}, fmt.Errorf("header %s is %.100q, want topic/partition/offset", HeaderSource, source)
	}
	partition, err1 := strconv.ParseInt(string(parts[1]), 10, 32)
	offset, err2 := strconv.ParseInt(string(parts[2]), 10, 64)
	number, err3 := strconv.Atoi(string(emit))
	if err1 != nil || err2 != nil || err3 != nil || partition < 0 || offset < 0 || number < 0 {
		return Stamp{}, fmt.Errorf("headers %s=%.100q %s=%.100q are not topic/partition/offset and a number", HeaderSource, source, HeaderEmit, emit)
	}
	return Stamp{Topic: string(parts[0]), Partition: int32(partition), Offset: offset, Emit: number}, nil
}

// String is src/emit.
func (s Stamp) String() string {
	return fmt.Sprintf("%s/%d/%d#%d", s.Topic, s.Partition, s.Offset, s.Emit)
}
