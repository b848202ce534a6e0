// Package graph turns a job as its author wrote it into what runs: logical graph, chains of operators
// (vertices), edges, key groups, slots. It is pure.
package graph

import "time"

// Limits of a job (DESIGN section 9).
const (
	MaxSpecBytes = 1 << 20
	MaxVertices  = 1000
	MaxSubtasks  = 10000
	// DefaultMaxParallelism is the number of key groups, frozen at the first checkpoint.
	DefaultMaxParallelism = 128
)

// Job is a job as submitted. Names of sources, operators and sinks share one name space; they are the
// stable ids of the state. A parallelism of 0 in a part means the job's.
type Job struct {
	Name           string
	Parallelism    int
	MaxParallelism int
	Checkpoint     Checkpointing
	Restart        Restart
	Sources        []Source
	Operators      []Operator
	Sinks          []Sink
}

// Checkpointing says when checkpoints are drawn. Interval 0: off, only the final one of a bounded
// job and of stop is drawn.
type Checkpointing struct {
	Interval          time.Duration
	Timeout           time.Duration
	MinPause          time.Duration
	Retain            int
	TolerableFailures int
}

// DefaultCheckpointing has the defaults of DESIGN 8.2, without an interval.
func DefaultCheckpointing() Checkpointing {
	return Checkpointing{Timeout: 2 * time.Minute, Retain: 3, TolerableFailures: 5}
}

// RestartStrategy is exponential-delay, fixed-delay or none.
type RestartStrategy string

// The restart strategies.
const (
	ExponentialDelay RestartStrategy = "exponential-delay"
	FixedDelay       RestartStrategy = "fixed-delay"
	NoRestart        RestartStrategy = "none"
)

// Restart is the restart policy. The first restart waits Initial, later ones up to Max; after
// Attempts restarts without a healthy period of HealthyAfter the job fails.
type Restart struct {
	Strategy     RestartStrategy
	Initial      time.Duration
	Max          time.Duration
	Attempts     int
	HealthyAfter time.Duration
}

// DefaultRestart is the policy of a job file that says nothing.
func DefaultRestart() Restart {
	return Restart{Strategy: ExponentialDelay, Max: time.Minute, Attempts: 10, HealthyAfter: 2 * time.Minute}
}

// Format is how expressions see a key or value.
type Format string

// The formats. Bytes is the default.
const (
	Bytes  Format = "bytes"
	String Format = "string"
	JSON   Format = "json"
)

// Source is a source vertex's head. Exactly one kind is set (today: Kafka).
type Source struct {
	Name        string
	Parallelism int
	Kafka       *KafkaSource
}

// KafkaSource reads topics. Topics, TopicPattern and Partitions exclude each other.
type KafkaSource struct {
	Topics       []string
	TopicPattern string
	// Partitions is a fixed set: topic to the numbers of the partitions to read.
	Partitions map[string][]int32
	Mode       SourceMode
	Startup    Startup
	Bounded    Bound
	Offsets    OffsetStorage
	// OffsetsMeaning is what a number in ZooKeeper says, when offsets are written there or read from there.
	OffsetsMeaning OffsetMeaning
	// Until is CEL: the first record of a partition for which it holds ends that partition and is not
	// delivered any more; empty: none does.
	Until     string
	OnError   OnError
	Format    Format
	KeyFormat Format
	// Properties are Kafka's, by Kafka's names; secrets are still ${env:…} or ${file:…}.
	Properties map[string]string
}

// SourceMode says who assigns partitions and keeps their offsets.
type SourceMode string

// The modes. ModeAssigned, the default: the job manager assigns partitions, checkpoints hold offsets.
// ModeGroup: Kafka's consumer group does both, outside of checkpoints, as Flink 0.9's KafkaSource did.
const (
	ModeAssigned SourceMode = "assigned"
	ModeGroup    SourceMode = "group"
)

// OffsetMeaning says what an offset in ZooKeeper stands for.
type OffsetMeaning string

// The meanings. MeansLast is the offset of the last record processed, as Flink 0.9 and 0.10 wrote it;
// MeansNext the offset to read next, as Kafka's own tools and later Flinks have it. Reading next as last
// loses a record, the reverse repeats one; so last is the default.
const (
	MeansLast OffsetMeaning = "last"
	MeansNext OffsetMeaning = "next"
)

// StartupMode says where a job without a checkpoint begins.
type StartupMode string

// The startup modes. Committed falls back to auto.offset.reset.
const (
	StartCommitted StartupMode = "committed"
	StartEarliest  StartupMode = "earliest"
	StartLatest    StartupMode = "latest"
	StartTimestamp StartupMode = "timestamp"
	StartOffsets   StartupMode = "offsets"
)

// Startup is the start position; Timestamp and Offsets (topic, partition, first offset to read)
// belong to their modes. A partition that Offsets does not name starts at earliest.
type Startup struct {
	Mode      StartupMode
	Timestamp time.Time
	Offsets   map[string]map[int32]int64
}

// BoundMode says where a bounded source ends.
type BoundMode string

// The bounds. BoundNone: never.
const (
	BoundNone      BoundMode = "none"
	BoundLatest    BoundMode = "latest"
	BoundTimestamp BoundMode = "timestamp"
	BoundOffsets   BoundMode = "offsets"
)

// Bound is the end position; the offset named is not read any more.
type Bound struct {
	Mode      BoundMode
	Timestamp time.Time
	Offsets   map[string]map[int32]int64
}

// OffsetStorage says where offsets are published for monitoring and a first start.
type OffsetStorage string

// The storages. Kafka is the default.
const (
	OffsetsKafka     OffsetStorage = "kafka"
	OffsetsZooKeeper OffsetStorage = "zookeeper"
	OffsetsBoth      OffsetStorage = "both"
	OffsetsNone      OffsetStorage = "none"
)

// OnError says what happens to a record that an expression or a format cannot handle.
type OnError struct {
	// Policy is fail, skip or deadLetter.
	Policy          ErrorPolicy
	DeadLetterTopic string
}

// ErrorPolicy is the policy of OnError.
type ErrorPolicy string

// The error policies. Fail is the default.
const (
	Fail       ErrorPolicy = "fail"
	Skip       ErrorPolicy = "skip"
	DeadLetter ErrorPolicy = "deadLetter"
)

// Operator has exactly one verb (Filter, Map, FlatMap, Count). KeyBy modifies the edge into it.
// Expressions are CEL source text.
type Operator struct {
	Name        string
	Parallelism int
	From        []string
	KeyBy       string
	Filter      string
	Map         *Map
	FlatMap     string
	Count       bool
}

// Map holds an expression for each part of the record that changes; empty: unchanged.
type Map struct {
	Key, Value, Headers, Timestamp string
}

// Sink is the end of a branch. Exactly one of Kafka and Print is set.
type Sink struct {
	Name        string
	Parallelism int
	From        []string
	KeyBy       string
	Kafka       *KafkaSink
	Print       *PrintSink
}

// Guarantee is what a sink promises.
type Guarantee string

// The guarantees. AtLeastOnce is the default. NoGuarantee: what brokers refuse, or do not take within
// delivery.timeout.ms, is counted and told in the log, and the job goes on; no checkpoint waits for a broker in
// trouble.
const (
	ExactlyOnce Guarantee = "exactly-once"
	AtLeastOnce Guarantee = "at-least-once"
	NoGuarantee Guarantee = "none"
)

// PartitionerMode says which partition a record goes to.
type PartitionerMode string

// The partitioners. ByKey is murmur2 of the key as Kafka's default producer has it (null keys: sticky
// round robin); Fixed: subtask index modulo partitions; Preserve: the partition it was read from.
const (
	ByKey        PartitionerMode = "key"
	Fixed        PartitionerMode = "fixed"
	RoundRobin   PartitionerMode = "round-robin"
	Preserve     PartitionerMode = "preserve"
	ByExpression PartitionerMode = "expression"
)

// KafkaSink writes to Topic, or to the topic that TopicExpression names for each record.
type KafkaSink struct {
	Topic                 string
	TopicExpression       string
	Guarantee             Guarantee
	Partitioner           PartitionerMode
	PartitionerExpression string
	// TransactionalIDPrefix begins the transactional ids of an exactly-once sink, for access rules; it may be
	// empty.
	TransactionalIDPrefix string
	Properties            map[string]string
}

// PrintSink writes a line per record to the task manager's standard output.
type PrintSink struct{}
