package jobmanager

import (
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// message is what goes down to a task manager; it is made here and opaque everywhere else.
type message = *pb.FromJobManager

func welcomeMessage(session string, epoch ident.LeaderEpoch, resumed bool, interval, timeout time.Duration) message {
	return &pb.FromJobManager{Message: &pb.FromJobManager_Welcome{Welcome: &pb.Welcome{
		Session: session, LeaderEpoch: uint64(epoch), Resumed: resumed,
		HeartbeatIntervalMs: interval.Milliseconds(), HeartbeatTimeoutMs: timeout.Milliseconds(),
	}}}
}

func heartbeatAnswer(sequence uint64) message {
	return &pb.FromJobManager{Message: &pb.FromJobManager_Heartbeat{Heartbeat: &pb.HeartbeatAnswer{Sequence: sequence}}}
}

func triggerMessage(job ident.JobID, t checkpoint.Trigger) message {
	kind := pb.CheckpointKind_CHECKPOINT_KIND_PERIODIC
	switch t.Kind {
	case checkpoint.KindFinal:
		kind = pb.CheckpointKind_CHECKPOINT_KIND_FINAL
	case checkpoint.KindDrain:
		kind = pb.CheckpointKind_CHECKPOINT_KIND_DRAIN
	}
	return &pb.FromJobManager{Message: &pb.FromJobManager_Trigger{Trigger: &pb.Trigger{
		Attempt: wire.AttemptToProto(job, t.Fence), Checkpoint: uint64(t.Checkpoint), Kind: kind,
	}}}
}

func abortedMessage(job ident.JobID, a checkpoint.Abort) message {
	return &pb.FromJobManager{Message: &pb.FromJobManager_Aborted{Aborted: &pb.CheckpointAborted{
		Attempt: wire.AttemptToProto(job, a.Fence), Checkpoint: uint64(a.Checkpoint), Reason: a.Why,
	}}}
}

func completedMessage(job ident.JobID, fence ident.Fence, id ident.CheckpointID) message {
	return &pb.FromJobManager{Message: &pb.FromJobManager_Completed{Completed: &pb.CheckpointCompleted{
		Attempt: wire.AttemptToProto(job, fence), Checkpoint: uint64(id),
	}}}
}

func cancelMessage(job ident.JobID, fence ident.Fence, subtasks []ident.Subtask) message {
	return &pb.FromJobManager{Message: &pb.FromJobManager_Cancel{Cancel: &pb.CancelAttempt{
		Attempt: wire.AttemptToProto(job, fence), Subtasks: wire.SubtasksToProto(subtasks),
	}}}
}

func handOutMessage(job ident.JobID, fence ident.Fence, to sinkRef, below int) message {
	return &pb.FromJobManager{Message: &pb.FromJobManager_HandOut{HandOut: &pb.HandOut{
		Attempt: wire.AttemptToProto(job, fence), Subtask: wire.SubtaskToProto(to.subtask), Sink: to.sink, Below: int32(below),
	}}}
}

func registrationFromProto(r *pb.Register) registration {
	return registration{
		worker: ident.WorkerID(r.GetWorker()), incarnation: ident.Incarnation(r.GetIncarnation()), slots: int(r.GetSlots()),
		dataAddress: r.GetDataAddress(), httpAddress: r.GetHttpAddress(), version: r.GetVersion(), session: r.GetSession(),
	}
}

func metricsFromProto(hb *pb.Heartbeat) map[metricKey]subtaskMetrics {
	out := make(map[metricKey]subtaskMetrics, len(hb.GetMetrics()))
	for _, m := range hb.GetMetrics() {
		job, fence := wire.AttemptFromProto(m.GetAttempt())
		s := subtaskMetrics{
			recordsIn: m.GetRecordsIn(), recordsOut: m.GetRecordsOut(), bytesIn: m.GetBytesIn(), bytesOut: m.GetBytesOut(),
			recordsSkipped: m.GetRecordsSkipped(), recordsDeadLettered: m.GetRecordsDeadLettered(), recordsFailed: m.GetRecordsFailed(),
			waiting: m.GetWaiting(),
		}
		for _, l := range m.GetLag() {
			next := int64(-1) // an older task manager does not tell
			if l.Position != nil {
				next = l.GetPosition()
			}
			s.lag = append(s.lag, splitLag{topic: l.GetTopic(), partition: l.GetPartition(), records: l.GetLag(), next: next})
		}
		out[metricKey{job, fence.Attempt, wire.SubtaskFromProto(m.GetSubtask())}] = s
	}
	return out
}
