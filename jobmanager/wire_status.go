package jobmanager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/web"
)

// statusToProto is the status of a job as of now.
func (m *Manager) statusToProto(r *runner) *pb.JobStatus {
	v := r.view()
	out := &pb.JobStatus{
		Id: string(v.id), Name: v.name, State: string(v.state), Attempt: uint64(v.attempt), Parallelism: int32(v.parallelism),
		Slots:       &pb.SlotStatus{Needed: int32(v.plan.Slots), Held: int32(len(v.slots)), Free: int32(m.scheduler.totals().Free)},
		Checkpoints: v.checkpointsToProto(), Restarts: int32(v.restarts),
		SubmittedAt: timeToProto(v.submittedAt), StateSince: timeToProto(v.stateSince), EndedAt: timeToProto(v.endedAt), Waiting: v.waiting, Damage: v.damage,
	}
	if e, waits := m.scheduler.explain(v.id); waits && !v.state.Terminal() {
		out.Slots.WaitingSince = timeToProto(time.Now().Add(-e.For))
		out.Slots.Explain = e.String()
	}
	if f := v.failure; f != nil {
		out.Failure = &pb.Failure{At: timeToProto(f.at), Class: f.class, Message: f.message, Subtask: f.subtask}
	}
	for _, p := range v.publications {
		out.Publications = append(out.Publications, &pb.OffsetPublication{
			Source: p.Source, Storage: string(p.Storage), Checkpoint: uint64(p.Checkpoint), PublishedAt: timeToProto(p.At),
			Error: p.Error, FailingSince: timeToProto(p.FailedSince),
		})
	}
	for i := range v.plan.Vertices {
		if n := &v.plan.Vertices[i].Nodes[0]; n.Kind == graph.KindSource && n.Source.Kafka != nil && n.Source.Kafka.Mode == graph.ModeGroup {
			out.Publications = append(out.Publications, &pb.OffsetPublication{Source: n.Name, Storage: string(graph.ModeGroup)})
		}
		out.Vertices = append(out.Vertices, m.vertexToProto(v, &v.plan.Vertices[i]))
	}
	out.Waiting = append(slices.Clone(out.Waiting), waitingSubtasks(out.Vertices)...)
	return out
}

// maxWaiting bounds the list of what subtasks wait for; they mostly wait for the same.
const maxWaiting = 10

// waitingSubtasks lists what subtasks wait for, each reason once, with the first subtask that gives it.
func waitingSubtasks(vertices []*pb.VertexStatus) []string {
	var out []string
	seen := map[string]bool{}
	for _, v := range vertices {
		for _, s := range v.GetSubtasks() {
			if why := s.GetWaiting(); why != "" && !seen[why] && len(out) < maxWaiting {
				seen[why] = true
				out = append(out, ident.Subtask{Vertex: v.GetName(), Index: int(s.GetIndex())}.String()+" waits: "+why)
			}
		}
	}
	return out
}

func (m *Manager) vertexToProto(v *jobView, vertex *graph.Vertex) *pb.VertexStatus {
	out := &pb.VertexStatus{Name: vertex.Name, Parallelism: int32(vertex.Parallelism)}
	for i := range vertex.Nodes {
		out.Operators = append(out.Operators, vertex.Nodes[i].Name)
	}
	for i := range vertex.Parallelism {
		s := ident.Subtask{Vertex: vertex.Name, Index: i}
		status := &pb.SubtaskStatus{Index: int32(i), State: v.subtasks[s].state, TaskManager: string(v.subtasks[s].worker)}
		c := m.sessions.metricsOf(v.subtasks[s].worker, metricKey{v.id, v.attempt, s})
		status.RecordsIn, status.RecordsOut, status.BytesIn, status.BytesOut = c.recordsIn, c.recordsOut, c.bytesIn, c.bytesOut
		status.RecordsSkipped, status.RecordsDeadLettered, status.RecordsFailed = c.recordsSkipped, c.recordsDeadLettered, c.recordsFailed
		status.Waiting = c.waiting
		for _, l := range c.lag {
			told := &pb.SplitLag{Topic: l.topic, Partition: l.partition, Lag: l.records}
			if l.next >= 0 {
				told.Position = &l.next
			}
			status.Lag = append(status.Lag, told)
		}
		out.Subtasks = append(out.Subtasks, status)
	}
	return out
}

func (v *jobView) checkpointsToProto() *pb.CheckpointStatus {
	out := &pb.CheckpointStatus{
		Completed: int64(v.checkpoints.Completed), Failed: int64(v.checkpoints.Failed), Restored: uint64(v.restored), Pending: v.pending(),
	}
	if f := v.checkpoints.LastFailure; f != nil {
		out.LastFailure = fmt.Sprintf("checkpoint %d, at %s: %s", f.Checkpoint, f.At.UTC().Format(time.RFC3339), f.Why)
	}
	if l := v.checkpoints.Latest; l != nil && l.Checkpoint > 0 {
		out.Latest = checkpointToProto(l, l.Checkpoint <= v.committed)
	}
	return out
}

// checkpointToProto shows a manifest. committed says that all of its transactions are marked.
func checkpointToProto(m *manifest.Manifest, committed bool) *pb.CheckpointInfo {
	return &pb.CheckpointInfo{
		Id: uint64(m.Checkpoint), CompletedAt: timeToProto(m.CompletedAt), DurationMs: m.CompletedAt.Sub(m.TriggeredAt).Milliseconds(),
		SizeBytes: m.SizeBytes(), Committed: committed, Offsets: offsetsToProto(m.Positions), Final: m.Final, Attempt: uint64(m.Fence.Attempt),
	}
}

func offsetsToProto(positions []manifest.Position) []*pb.SourceOffsets {
	bySource := map[string]*pb.SourceOffsets{}
	var out []*pb.SourceOffsets
	for _, p := range positions {
		s := bySource[p.Source]
		if s == nil {
			s = &pb.SourceOffsets{Source: p.Source}
			bySource[p.Source] = s
			out = append(out, s)
		}
		s.Offsets = append(s.Offsets, &pb.PartitionOffset{Topic: p.Topic, Partition: p.Partition, Offset: p.Next})
	}
	slices.SortFunc(out, func(a, b *pb.SourceOffsets) int { return cmp.Compare(a.GetSource(), b.GetSource()) })
	return out
}

func (m *Manager) checkpointsToProto(id ident.JobID) ([]*pb.CheckpointInfo, error) {
	list, err := m.checkpoints(id)
	if err != nil {
		return nil, err
	}
	var out []*pb.CheckpointInfo
	for _, c := range slices.Backward(list) {
		out = append(out, checkpointToProto(c.manifest, c.committed))
	}
	return out, nil
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// Jobs lists the jobs for the HTTP API.
func (m *Manager) Jobs(ctx context.Context) ([]web.Job, error) {
	resp, err := (&jobService{m: m}).List(ctx, &pb.ListRequest{})
	if err != nil {
		return nil, err
	}
	out := []web.Job{}
	for _, j := range resp.GetJobs() {
		out = append(out, web.JobFromProto(j))
	}
	return out, nil
}

// Job shows one job for the HTTP API.
func (m *Manager) Job(ctx context.Context, nameOrID string) (web.Job, error) {
	resp, err := (&jobService{m: m}).Get(ctx, &pb.GetRequest{Job: nameOrID})
	if err != nil {
		return web.Job{}, err
	}
	return web.JobFromProto(resp.GetJob()), nil
}

// Checkpoints lists the checkpoints of a job for the HTTP API.
func (m *Manager) Checkpoints(ctx context.Context, nameOrID string) ([]web.Checkpoint, error) {
	resp, err := (&jobService{m: m}).ListCheckpoints(ctx, &pb.ListCheckpointsRequest{Job: nameOrID})
	if err != nil {
		return nil, err
	}
	out := []web.Checkpoint{}
	for _, c := range resp.GetCheckpoints() {
		out = append(out, web.CheckpointFromProto(c))
	}
	return out, nil
}

// TaskManagers lists the task managers for the HTTP API.
func (m *Manager) TaskManagers(ctx context.Context) ([]web.TaskManager, error) {
	resp, err := (&jobService{m: m}).ListTaskManagers(ctx, &pb.ListTaskManagersRequest{})
	if err != nil {
		return nil, err
	}
	out := []web.TaskManager{}
	for _, t := range resp.GetTaskManagers() {
		out = append(out, web.TaskManagerFromProto(t))
	}
	return out, nil
}
