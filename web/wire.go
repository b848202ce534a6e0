package web

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// JobFromProto makes the JSON view of a job.
func JobFromProto(in *pb.JobStatus) Job {
	out := Job{
		ID: in.GetId(), Name: in.GetName(), State: in.GetState(), Attempt: in.GetAttempt(), Parallelism: in.GetParallelism(),
		StateSince: timeFromProto(in.GetStateSince()), SubmittedAt: timeFromProto(in.GetSubmittedAt()), EndedAt: timeFromProto(in.GetEndedAt()),
		Slots: Slots{
			Needed: in.GetSlots().GetNeeded(), Held: in.GetSlots().GetHeld(), Free: in.GetSlots().GetFree(),
			WaitingSince: timeFromProto(in.GetSlots().GetWaitingSince()), Explain: in.GetSlots().GetExplain(),
		},
		Checkpoints: Checkpoints{
			Completed: in.GetCheckpoints().GetCompleted(), Failed: in.GetCheckpoints().GetFailed(),
			Restored: in.GetCheckpoints().GetRestored(), Pending: in.GetCheckpoints().GetPending(), LastFailure: in.GetCheckpoints().GetLastFailure(),
		},
		Restarts: in.GetRestarts(), Vertices: []Vertex{}, Waiting: append([]string{}, in.GetWaiting()...),
		Publications: []Publication{},
	}
	for _, p := range in.GetPublications() {
		out.Publications = append(out.Publications, Publication{
			Source: p.GetSource(), Storage: p.GetStorage(), Checkpoint: p.GetCheckpoint(), PublishedAt: timeFromProto(p.GetPublishedAt()),
			Error: p.GetError(), FailingSince: timeFromProto(p.GetFailingSince()),
		})
	}
	if l := in.GetCheckpoints().GetLatest(); l != nil {
		c := CheckpointFromProto(l)
		out.Checkpoints.Latest = &c
	}
	if f := in.GetFailure(); f != nil {
		out.Failure = &Failure{At: timeFromProto(f.GetAt()), Class: f.GetClass(), Message: f.GetMessage(), Subtask: f.GetSubtask()}
	}
	for _, v := range in.GetVertices() {
		out.Vertices = append(out.Vertices, vertexFromProto(v))
	}
	return out
}

func vertexFromProto(v *pb.VertexStatus) Vertex {
	out := Vertex{Name: v.GetName(), Parallelism: v.GetParallelism(), Operators: v.GetOperators(), Subtasks: []Subtask{}}
	for _, s := range v.GetSubtasks() {
		sub := Subtask{
			Index: s.GetIndex(), State: s.GetState(), TaskManager: s.GetTaskManager(), RecordsIn: s.GetRecordsIn(), RecordsOut: s.GetRecordsOut(),
			BytesIn: s.GetBytesIn(), BytesOut: s.GetBytesOut(), RecordsSkipped: s.GetRecordsSkipped(),
			RecordsDeadLettered: s.GetRecordsDeadLettered(), RecordsFailed: s.GetRecordsFailed(), Waiting: s.GetWaiting(),
		}
		for _, l := range s.GetLag() {
			sub.Lag = append(sub.Lag, SplitLag{Topic: l.GetTopic(), Partition: l.GetPartition(), Lag: l.GetLag(), Position: l.Position})
		}
		out.Subtasks = append(out.Subtasks, sub)
	}
	return out
}

// CheckpointFromProto makes the JSON view of a checkpoint.
func CheckpointFromProto(in *pb.CheckpointInfo) Checkpoint {
	out := Checkpoint{
		ID: in.GetId(), Attempt: in.GetAttempt(), CompletedAt: timeFromProto(in.GetCompletedAt()), DurationMs: in.GetDurationMs(),
		SizeBytes: in.GetSizeBytes(), Committed: in.GetCommitted(), Final: in.GetFinal(), Offsets: map[string]map[string]map[string]int64{},
	}
	for _, s := range in.GetOffsets() {
		topics := map[string]map[string]int64{}
		for _, o := range s.GetOffsets() {
			parts := topics[o.GetTopic()]
			if parts == nil {
				parts = map[string]int64{}
				topics[o.GetTopic()] = parts
			}
			parts[strconv.Itoa(int(o.GetPartition()))] = o.GetOffset()
		}
		out.Offsets[s.GetSource()] = topics
	}
	return out
}

// TaskManagerFromProto makes the JSON view of a task manager.
func TaskManagerFromProto(in *pb.TaskManagerInfo) TaskManager {
	return TaskManager{
		ID: in.GetId(), State: in.GetState(), Slots: in.GetSlots(), FreeSlots: in.GetFreeSlots(), DataAddress: in.GetDataAddress(),
		HTTPAddress: in.GetHttpAddress(), ConnectedAt: timeFromProto(in.GetConnectedAt()), LastHeartbeat: timeFromProto(in.GetLastHeartbeat()),
		Jobs: append([]string{}, in.GetJobs()...), Version: in.GetVersion(),
	}
}

func timeFromProto(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}
