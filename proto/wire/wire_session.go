package wire

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// ProtocolVersion is the version of the session and exchange protocols. Peers of another version are
// refused at Register; it changes only when an old peer would misunderstand a new one.
const ProtocolVersion = 3

// AttemptToProto names an attempt on the wire.
func AttemptToProto(job ident.JobID, f ident.Fence) *pb.AttemptRef {
	return &pb.AttemptRef{Job: string(job), LeaderEpoch: uint64(f.Epoch), Attempt: uint64(f.Attempt)}
}

// AttemptFromProto is the inverse of AttemptToProto; an absent reference gives zero values, which no
// living attempt has.
func AttemptFromProto(r *pb.AttemptRef) (ident.JobID, ident.Fence) {
	return ident.JobID(r.GetJob()), ident.Fence{Epoch: ident.LeaderEpoch(r.GetLeaderEpoch()), Attempt: ident.Attempt(r.GetAttempt())}
}

// SubtaskToProto names a subtask on the wire.
func SubtaskToProto(s ident.Subtask) *pb.SubtaskRef {
	return &pb.SubtaskRef{Vertex: s.Vertex, Index: int32(s.Index)}
}

// SubtaskFromProto is the inverse of SubtaskToProto.
func SubtaskFromProto(s *pb.SubtaskRef) ident.Subtask {
	return ident.Subtask{Vertex: s.GetVertex(), Index: int(s.GetIndex())}
}

// SubtasksToProto translates a list.
func SubtasksToProto(in []ident.Subtask) []*pb.SubtaskRef {
	out := make([]*pb.SubtaskRef, len(in))
	for i, s := range in {
		out[i] = SubtaskToProto(s)
	}
	return out
}

// PositionToProto translates a position.
func PositionToProto(p manifest.Position) *pb.SplitPosition {
	out := &pb.SplitPosition{Source: p.Source, Topic: p.Topic, Partition: p.Partition, Next: p.Next, LeaderEpoch: p.LeaderEpoch, Stop: p.Stop}
	if p.TopicID != (manifest.TopicID{}) {
		out.TopicId = p.TopicID[:]
	}
	return out
}

// PositionFromProto is the inverse of PositionToProto.
func PositionFromProto(p *pb.SplitPosition) manifest.Position {
	out := manifest.Position{
		Split: manifest.Split{Source: p.GetSource(), Topic: p.GetTopic(), Partition: p.GetPartition()},
		Next:  p.GetNext(), LeaderEpoch: p.GetLeaderEpoch(), Stop: p.GetStop(),
	}
	copy(out.TopicID[:], p.GetTopicId())
	return out
}

// AckToProto translates an ack. Transaction ages are sent instead of start times, as the clocks of two
// machines differ.
func AckToProto(a *manifest.Ack, now time.Time) *pb.CheckpointAck {
	out := &pb.CheckpointAck{Attempt: AttemptToProto(a.Job, a.Fence), Checkpoint: uint64(a.Checkpoint), Subtask: SubtaskToProto(a.Subtask)}
	for _, p := range a.Positions {
		out.Positions = append(out.Positions, PositionToProto(p))
	}
	for _, s := range a.State {
		out.State = append(out.State, &pb.StatePiece{
			Operator: s.Operator, FirstKeyGroup: int32(s.FirstKeyGroup), LastKeyGroup: int32(s.LastKeyGroup), SizeBytes: s.SizeBytes,
			Inline: s.Inline, Blob: BlobToProto(s.Blob),
		})
	}
	for i := range a.Transactions {
		out.Transactions = append(out.Transactions, transactionToProto(&a.Transactions[i], now))
	}
	return out
}

// AckFromProto is the inverse of AckToProto. It refuses what no correct task manager sends: negative
// sizes and offsets, a piece of state with both or neither of inline bytes and a blob.
func AckFromProto(in *pb.CheckpointAck, now time.Time) (*manifest.Ack, error) {
	job, fence := AttemptFromProto(in.GetAttempt())
	a := &manifest.Ack{Job: job, Fence: fence, Checkpoint: ident.CheckpointID(in.GetCheckpoint()), Subtask: SubtaskFromProto(in.GetSubtask())}
	for _, p := range in.GetPositions() {
		pos := PositionFromProto(p)
		if pos.Next < 0 || pos.Partition < 0 || pos.Topic == "" {
			return nil, fmt.Errorf("ack of %s for checkpoint %d: position %s-%d at %d is impossible", a.Subtask, a.Checkpoint, pos.Topic, pos.Partition, pos.Next)
		}
		a.Positions = append(a.Positions, pos)
	}
	for _, s := range in.GetState() {
		piece, err := stateFromProto(s, a.Subtask)
		if err != nil {
			return nil, fmt.Errorf("ack of %s for checkpoint %d: %w", a.Subtask, a.Checkpoint, err)
		}
		a.State = append(a.State, piece)
	}
	for _, t := range in.GetTransactions() {
		a.Transactions = append(a.Transactions, transactionFromProto(t, now))
	}
	return a, nil
}

func stateFromProto(s *pb.StatePiece, writer ident.Subtask) (manifest.State, error) {
	out := manifest.State{
		Operator: s.GetOperator(), Subtask: writer, FirstKeyGroup: int(s.GetFirstKeyGroup()), LastKeyGroup: int(s.GetLastKeyGroup()),
		SizeBytes: s.GetSizeBytes(), Inline: s.GetInline(), Blob: BlobFromProto(s.GetBlob()),
	}
	hasBlob := out.Blob.Name != ""
	if hasBlob == (len(out.Inline) > 0) {
		return out, fmt.Errorf("state of %q has both or neither of inline bytes and a file", out.Operator)
	}
	want := out.Blob.SizeBytes
	if !hasBlob {
		want = int64(len(out.Inline))
	}
	if out.SizeBytes != want || out.SizeBytes <= 0 {
		return out, fmt.Errorf("state of %q says %d bytes and has %d", out.Operator, out.SizeBytes, want)
	}
	return out, nil
}

// BlobToProto translates a blob reference; nil for none.
func BlobToProto(b manifest.Blob) *pb.Blob {
	if b.Name == "" {
		return nil
	}
	return &pb.Blob{Name: b.Name, SizeBytes: b.SizeBytes, Crc32C: b.CRC32C}
}

// BlobFromProto is the inverse of BlobToProto.
func BlobFromProto(b *pb.Blob) manifest.Blob {
	return manifest.Blob{Name: b.GetName(), SizeBytes: b.GetSizeBytes(), CRC32C: b.GetCrc32C()}
}

func transactionToProto(t *manifest.Transaction, now time.Time) *pb.Transaction {
	out := &pb.Transaction{
		Sink: t.Sink, Subtask: int32(t.Subtask), Cluster: t.Cluster, TransactionalId: t.TransactionalID, ProducerId: t.ProducerID,
		ProducerEpoch: int32(t.ProducerEpoch), AgeMs: now.Sub(t.StartedAt).Milliseconds(), TimeoutMs: t.TimeoutMs,
	}
	for _, p := range t.Partitions {
		out.Partitions = append(out.Partitions, &pb.PartitionRange{Topic: p.Topic, Partition: p.Partition, FirstOffset: p.FirstOffset, LastOffset: p.LastOffset})
	}
	return out
}

func transactionFromProto(t *pb.Transaction, now time.Time) manifest.Transaction {
	out := manifest.Transaction{
		Sink: t.GetSink(), Subtask: int(t.GetSubtask()), Cluster: t.GetCluster(), TransactionalID: t.GetTransactionalId(), ProducerID: t.GetProducerId(),
		ProducerEpoch: int16(t.GetProducerEpoch()), StartedAt: now.Add(-time.Duration(t.GetAgeMs()) * time.Millisecond), TimeoutMs: t.GetTimeoutMs(),
	}
	for _, p := range t.GetPartitions() {
		out.Partitions = append(out.Partitions, manifest.TopicPartition{Topic: p.GetTopic(), Partition: p.GetPartition(), FirstOffset: p.GetFirstOffset(), LastOffset: p.GetLastOffset()})
	}
	return out
}
