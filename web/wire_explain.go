package web

import pb "github.com/sluice-stream/sluice/proto/sluice/v1"

// LagFromProto makes the JSON view of a lag.
func LagFromProto(in *pb.LagResponse) Lag {
	out := Lag{ID: in.GetJobId(), Name: in.GetName(), State: in.GetState(), Total: in.GetTotal(), Unknown: in.GetUnknown(), Partitions: []PartitionLag{}}
	for _, p := range in.GetPartitions() {
		part := PartitionLag{
			Source: p.GetSource(), Topic: p.GetTopic(), Partition: p.GetPartition(), Position: p.Position, PositionFrom: p.GetPositionFrom(),
			End: p.End, StableEnd: p.StableEnd, Stop: p.Stop, Lag: p.Lag, Subtask: p.GetSubtask(), TaskManager: p.GetTaskManager(), Note: p.GetNote(),
			Published: []Published{},
		}
		for _, o := range p.GetPublished() {
			part.Published = append(part.Published, Published{Storage: o.GetStorage(), Next: o.Next, PublishedAt: timeFromProto(o.GetPublishedAt()), Note: o.GetNote()})
		}
		out.Partitions = append(out.Partitions, part)
	}
	return out
}

// ExplanationFromProto makes the JSON view of an explanation.
func ExplanationFromProto(in *pb.ExplainResponse) Explanation {
	out := Explanation{
		ID: in.GetJob().GetId(), Name: in.GetJob().GetName(), State: in.GetJob().GetState(), Job: JobFromProto(in.GetJob()), Lag: LagFromProto(in.GetLag()),
		Restart: Restart{
			Strategy: in.GetRestart().GetStrategy(), BudgetUsed: in.GetRestart().GetBudgetUsed(), Budget: in.GetRestart().GetBudget(),
			NextAt: timeFromProto(in.GetRestart().GetNextAt()),
		},
		Commits: Commits{
			Uncommitted: in.GetCommits().GetUncommitted(), Since: timeFromProto(in.GetCommits().GetSince()), Unfenced: in.GetCommits().GetUnfenced(),
			Lost: in.GetCommits().GetLost(), Reason: in.GetCommits().GetReason(),
		},
		Findings: []Finding{}, Sinks: []SinkPromise{}, Waits: []SubtaskWait{},
	}
	for _, f := range in.GetFindings() {
		out.Findings = append(out.Findings, Finding{Subject: f.GetSubject(), Level: f.GetLevel(), Text: f.GetText(), Advice: f.GetAdvice()})
	}
	for _, s := range in.GetSinks() {
		out.Sinks = append(out.Sinks, SinkPromise{Sink: s.GetSink(), Holds: s.GetHolds(), Why: s.GetWhy()})
	}
	for _, w := range in.GetWaits() {
		out.Waits = append(out.Waits, SubtaskWait{Subtask: w.GetSubtask(), TaskManager: w.GetTaskManager(), Reason: w.GetReason(), Since: timeFromProto(w.GetSince())})
	}
	if p := in.GetPendingCheckpoint(); p != nil {
		out.PendingCheckpoint = &PendingCheckpoint{
			ID: p.GetId(), TriggeredAt: timeFromProto(p.GetTriggeredAt()), Acked: p.GetAcked(), Expected: p.GetExpected(),
			Missing: append([]string{}, p.GetMissing()...), Reason: p.GetReason(),
		}
	}
	return out
}
