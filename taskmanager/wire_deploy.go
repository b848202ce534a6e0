package taskmanager

import (
	"fmt"
	"strings"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/taskmanager/exchange"
	"github.com/sluice-stream/sluice/taskmanager/subtask"
)

// deployment is what is to run here of one attempt.
type deployment struct {
	id         attemptID
	job        *graph.Job
	subtasks   []ident.Subtask
	placements map[ident.Subtask]exchange.Peer
	splits     map[ident.Subtask][]manifest.Position
	state      []stateRef
	restored   ident.CheckpointID
	// inlineBytes is up to which size the state of a subtask travels in its ack.
	inlineBytes int64
	// transactions are the transactional ids of the exactly-once sinks.
	transactions map[sinkKey]transactionIDs
}

// transactionIDs are what a sink is handed out with its deployment.
type transactionIDs struct {
	prefix     string
	owned, cap int
}

// stateRef names a piece of the restored checkpoint.
type stateRef struct {
	operator                    string
	writer                      ident.Subtask
	sizeBytes                   int64
	firstKeyGroup, lastKeyGroup int
}

func deploymentFromProto(d *pb.Deploy) (*deployment, error) {
	id, fence := wire.AttemptFromProto(d.GetAttempt())
	job, err := wire.JobFromProto(d.GetJob())
	if err != nil {
		return nil, fmt.Errorf("read the deployed job: %w", err)
	}
	out := &deployment{
		id: attemptID{id, fence}, job: job, placements: map[ident.Subtask]exchange.Peer{}, splits: map[ident.Subtask][]manifest.Position{},
		restored: ident.CheckpointID(d.GetRestoredCheckpoint()), inlineBytes: d.GetInlineStateBytes(), transactions: map[sinkKey]transactionIDs{},
	}
	for _, t := range d.GetTransactionalIds() {
		key := sinkKey{wire.SubtaskFromProto(t.GetSubtask()), t.GetSink()}
		out.transactions[key] = transactionIDs{prefix: t.GetPrefix(), owned: int(t.GetOwned()), cap: int(t.GetCap())}
	}
	for _, s := range d.GetSubtasks() {
		out.subtasks = append(out.subtasks, wire.SubtaskFromProto(s))
	}
	for _, p := range d.GetPlacements() {
		for _, s := range p.GetSubtasks() {
			out.placements[wire.SubtaskFromProto(s)] = exchange.Peer{Worker: ident.WorkerID(p.GetWorker()), Address: p.GetDataAddress()}
		}
	}
	for _, s := range d.GetSplits() {
		to := wire.SubtaskFromProto(s.GetSubtask())
		out.splits[to] = append(out.splits[to], wire.PositionFromProto(s.GetPosition()))
	}
	for _, s := range d.GetState() {
		out.state = append(out.state, stateRef{
			operator: s.GetOperator(), writer: wire.SubtaskFromProto(s.GetWriter()), sizeBytes: s.GetSizeBytes(),
			firstKeyGroup: int(s.GetFirstKeyGroup()), lastKeyGroup: int(s.GetLastKeyGroup()),
		})
	}
	return out, nil
}

// splitsMessage is AddSplits or RemoveSplits.
type splitsMessage interface {
	GetAttempt() *pb.AttemptRef
	GetSubtask() *pb.SubtaskRef
	GetPositions() []*pb.SplitPosition
}

func splitsFromProto(m splitsMessage) (id attemptID, of ident.Subtask, splits []manifest.Position) {
	for _, p := range m.GetPositions() {
		splits = append(splits, wire.PositionFromProto(p))
	}
	return attemptFromProto(m.GetAttempt()), wire.SubtaskFromProto(m.GetSubtask()), splits
}

func kindFromProto(k pb.CheckpointKind) subtask.Kind {
	switch k {
	case pb.CheckpointKind_CHECKPOINT_KIND_FINAL:
		return subtask.Final
	case pb.CheckpointKind_CHECKPOINT_KIND_DRAIN:
		return subtask.Drain
	default:
		return subtask.Periodic
	}
}

func attemptFromProto(r *pb.AttemptRef) attemptID {
	job, fence := wire.AttemptFromProto(r)
	return attemptID{job, fence}
}

// maxTextBytes is how much of a reason is told. Some hold what records hold, and a message that is too large to be
// received would end the stream again and again.
const maxTextBytes = 16 << 10

// told is a reason as it can be sent: cut, and UTF-8.
func told(reason string) string {
	if n := len(reason); n > maxTextBytes {
		reason = fmt.Sprintf("%s… (%d bytes)", reason[:maxTextBytes], n)
	}
	return strings.ToValidUTF8(reason, "\uFFFD")
}

func reportToProto(r report) *pb.SubtaskReport {
	out := &pb.SubtaskReport{
		Attempt: wire.AttemptToProto(r.attempt.job, r.attempt.fence), Subtask: wire.SubtaskToProto(r.subtask), State: string(r.state),
	}
	if r.state == Failed {
		out.Failure = &pb.Failure{Class: r.failure.Class, Message: told(r.failure.Message), Subtask: r.subtask.String()}
	}
	return out
}

func declineToProto(d decline) *pb.CheckpointDecline {
	return &pb.CheckpointDecline{
		Attempt: wire.AttemptToProto(d.attempt.job, d.attempt.fence), Checkpoint: uint64(d.checkpoint),
		Subtask: wire.SubtaskToProto(d.subtask), Reason: told(d.reason),
	}
}

func levelToProto(l sinkLevel) *pb.SinkLevel {
	return &pb.SinkLevel{
		Attempt: wire.AttemptToProto(l.attempt.job, l.attempt.fence), Subtask: wire.SubtaskToProto(l.subtask), Sink: l.sink,
		Ready: int32(l.Ready), Wanted: int32(l.Wanted), Sequence: l.sequence,
	}
}

func counterToProto(c subtaskCounters) *pb.SubtaskMetrics {
	m := &pb.SubtaskMetrics{
		Attempt: wire.AttemptToProto(c.attempt.job, c.attempt.fence), Subtask: wire.SubtaskToProto(c.subtask), RecordsIn: c.recordsIn, RecordsOut: c.recordsOut,
		BytesIn: c.bytesIn, BytesOut: c.bytesOut, RecordsSkipped: c.recordsSkipped,
		RecordsDeadLettered: c.deadLettered, RecordsFailed: c.recordsFailed, Waiting: told(c.waiting),
	}
	for _, l := range c.lag {
		m.Lag = append(m.Lag, &pb.SplitLag{Topic: l.Split.Topic, Partition: l.Split.Partition, Lag: l.Lag, Position: &l.Next})
	}
	return m
}
