package jobmanager

import (
	"context"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/explain"
	"github.com/sluice-stream/sluice/operator"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/web"
)

// Lag says how far each partition of a job is behind.
func (s *jobService) Lag(ctx context.Context, req *pb.LagRequest) (*pb.LagResponse, error) {
	r, err := s.find(req.GetJob())
	if err != nil {
		return nil, err
	}
	v := r.view()
	return lagToProto(v, s.m.statusToProto(r).GetPublications(), s.m.lag(ctx, r, v)), nil
}

// Explain says how a job is, what it waits for and what can be done.
func (s *jobService) Explain(ctx context.Context, req *pb.ExplainRequest) (*pb.ExplainResponse, error) {
	r, err := s.find(req.GetJob())
	if err != nil {
		return nil, err
	}
	f := s.m.facts(ctx, r)
	out := &pb.ExplainResponse{
		Job: s.m.statusToProto(r), Restart: restartToProto(f), Commits: commitsToProto(f), PendingCheckpoint: pendingToProto(f),
	}
	out.Lag = lagToProto(r.view(), out.GetJob().GetPublications(), f.Lag)
	for _, found := range explain.Explain(f) {
		out.Findings = append(out.Findings, &pb.Finding{Subject: string(found.Subject), Level: string(found.Level), Text: found.Text, Advice: found.Advice})
	}
	for _, p := range explain.Promises(f.Graph) {
		out.Sinks = append(out.Sinks, &pb.SinkPromise{Sink: p.Sink, Holds: string(p.Holds), Why: p.Why})
	}
	for _, w := range f.Waits {
		out.Waits = append(out.Waits, &pb.SubtaskWait{Subtask: w.Subtask.String(), TaskManager: string(w.Worker), Reason: w.Reason, Since: timeToProto(w.Since)})
	}
	return out, nil
}

func restartToProto(f *explain.Facts) *pb.RestartStatus {
	p := f.Graph.Restart
	out := &pb.RestartStatus{BudgetUsed: int32(f.Record.BudgetUsed), Budget: int32(p.Attempts), Strategy: string(p.Strategy), NextAt: timeToProto(f.RestartAt)}
	if p.Strategy == graph.NoRestart {
		out.Budget = 0
	}
	return out
}

func commitsToProto(f *explain.Facts) *pb.CommitStatus {
	c := f.Commits
	return &pb.CommitStatus{Uncommitted: int32(c.Uncommitted), Since: timeToProto(c.Since), Unfenced: int32(c.Unfenced), Lost: int32(c.Lost), Reason: c.Reason}
}

func pendingToProto(f *explain.Facts) *pb.PendingCheckpoint {
	p := f.Checkpoints.InFlight
	if p == nil {
		return nil
	}
	out := &pb.PendingCheckpoint{Id: uint64(p.Checkpoint), TriggeredAt: timeToProto(p.TriggeredAt), Acked: int32(p.Acked), Expected: int32(p.Expected), Reason: p.Reason}
	for _, s := range p.Missing {
		out.Missing = append(out.Missing, s.String())
	}
	return out
}

func lagToProto(v *jobView, published []*pb.OffsetPublication, lag explain.Lag) *pb.LagResponse {
	out := &pb.LagResponse{JobId: string(v.id), Name: v.name, State: string(v.state), Total: lag.Total, Unknown: int32(lag.Unknown)}
	for i := range lag.Partitions {
		p := &lag.Partitions[i]
		part := &pb.PartitionLag{
			Source: p.Split.Source, Topic: p.Split.Topic, Partition: p.Split.Partition, Position: orNil(p.Position), PositionFrom: p.From,
			End: orNil(p.End), StableEnd: orNil(p.Stable), Stop: orNil(p.Stop), Lag: orNil(p.Lag), TaskManager: string(p.Worker), Note: p.Note,
		}
		if p.Subtask != (ident.Subtask{}) {
			part.Subtask = p.Subtask.String()
		}
		for _, o := range p.Published {
			part.Published = append(part.Published, publishedToProto(p.Split.Source, o, published))
		}
		out.Partitions = append(out.Partitions, part)
	}
	return out
}

func publishedToProto(source string, o operator.PublishedOffset, publications []*pb.OffsetPublication) *pb.PublishedOffset {
	out := &pb.PublishedOffset{Storage: string(o.Storage), Next: orNil(o.Next)}
	if o.Err != nil {
		out.Note = o.Err.Error()
	}
	for _, p := range publications {
		if p.GetSource() == source && p.GetStorage() == string(o.Storage) {
			out.PublishedAt = p.GetPublishedAt()
		}
	}
	return out
}

// orNil is nil for what is not.
func orNil(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

// Lag is the lag of a job for the HTTP API.
func (m *Manager) Lag(ctx context.Context, nameOrID string) (web.Lag, error) {
	resp, err := (&jobService{m: m}).Lag(ctx, &pb.LagRequest{Job: nameOrID})
	if err != nil {
		return web.Lag{}, err
	}
	return web.LagFromProto(resp), nil
}

// Explain explains a job for the HTTP API.
func (m *Manager) Explain(ctx context.Context, nameOrID string) (web.Explanation, error) {
	resp, err := (&jobService{m: m}).Explain(ctx, &pb.ExplainRequest{Job: nameOrID})
	if err != nil {
		return web.Explanation{}, err
	}
	return web.ExplanationFromProto(resp), nil
}
