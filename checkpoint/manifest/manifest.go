// Package manifest holds the content of checkpoints: what a subtask acknowledges and what the job
// manager makes durable. It is pure; encoding is in codec.go.
package manifest

import (
	"cmp"
	"encoding/base64"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// Split is a Kafka partition as read by one source vertex.
type Split struct {
	Source    string // name of the source operator
	Topic     string
	Partition int32
}

// Compare orders splits by source, topic, partition.
func (s Split) Compare(o Split) int {
	return cmp.Or(strings.Compare(s.Source, o.Source), strings.Compare(s.Topic, o.Topic), cmp.Compare(s.Partition, o.Partition))
}

// TopicID tells a topic from one that had its name before: brokers give every topic a new one when it is
// created. The zero value means unknown, as with brokers before 2.8.
type TopicID [16]byte

// String is the form that Kafka's own tools print; empty: unknown.
func (t TopicID) String() string {
	if t == (TopicID{}) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(t[:])
}

// Position is where a split is to be read from. An offset means nothing without the topic that it is of: see
// TopicID.
type Position struct {
	Split
	// TopicID is that of the topic when the position was resolved.
	TopicID TopicID
	// Next is the offset of the first record that is not yet part of the checkpoint.
	Next int64
	// LeaderEpoch is the partition's leader epoch seen with the last batch; -1: unknown.
	LeaderEpoch int32
	// Stop is the offset before which a bounded source ends; -1: unbounded.
	Stop int64
}

// AtEnd says whether a bounded split has nothing left to read.
func (p Position) AtEnd() bool { return p.Stop >= 0 && p.Next >= p.Stop }

// State is one piece of keyed state: that of one operator in one subtask. Exactly one of Inline and
// Blob holds the bytes, in the form that package state writes.
type State struct {
	Operator string
	Subtask  ident.Subtask
	// FirstKeyGroup and LastKeyGroup are the range that the subtask owned, inclusive.
	FirstKeyGroup, LastKeyGroup int
	SizeBytes                   int64
	Inline                      []byte
	Blob                        Blob
}

// Blob names a file in the job manager's blob directory; the zero value is none.
type Blob struct {
	Name      string // relative, made by the job manager's blob store
	SizeBytes int64
	CRC32C    uint32
}

// Transaction is a sealed Kafka transaction that the job manager has to commit (DESIGN rule 3).
type Transaction struct {
	Sink            string
	Subtask         int
	Cluster         string // bootstrap servers, as the sink's properties give them
	TransactionalID string
	ProducerID      int64
	ProducerEpoch   int16
	Partitions      []TopicPartition
	// StartedAt is when AddPartitions was first sent; the age rule (12) counts from it.
	StartedAt time.Time
	TimeoutMs int64
}

// TopicPartition is an output partition of a transaction with the offsets written, -1 if unknown.
type TopicPartition struct {
	Topic                   string
	Partition               int32
	FirstOffset, LastOffset int64
}

// Ack is what one subtask reports for one checkpoint. It is cumulative (rule 3).
type Ack struct {
	Job        ident.JobID
	Fence      ident.Fence
	Checkpoint ident.CheckpointID
	Subtask    ident.Subtask
	// Positions holds every split of the subtask's source, moved or not.
	Positions    []Position
	State        []State
	Transactions []Transaction
}

// Manifest is one durable, consistent cut of a job.
type Manifest struct {
	Job        ident.JobID
	Checkpoint ident.CheckpointID
	Fence      ident.Fence
	// Identity is the identity of the state-relevant graph: operator names with state, key groups,
	// state schemas; see graph.Physical.Identity.
	Identity    string
	TriggeredAt time.Time
	// CompletedAt is when the last ack came in.
	CompletedAt  time.Time
	Positions    []Position
	State        []State
	Transactions []Transaction
	// Final says that the job ends with this checkpoint and never deploys again (rule 6).
	Final bool
}

// SizeBytes is the size of the state that the manifest names, inline and in blobs.
func (m *Manifest) SizeBytes() int64 {
	var n int64
	for i := range m.State {
		n += m.State[i].SizeBytes
	}
	return n
}
