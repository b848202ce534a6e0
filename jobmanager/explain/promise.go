package explain

import (
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/graph"
)

// Promise is what holds for the output of a sink, and why.
type Promise struct {
	Sink string
	// Holds is what really holds, which may be less than what the job file says.
	Holds graph.Guarantee
	Why   string
}

// String is a sentence.
func (p Promise) String() string { return fmt.Sprintf("Sink %s: %s. %s", p.Sink, p.Holds, p.Why) }

// Promises says what holds for each sink of a job.
func Promises(j *graph.Job) []Promise {
	var out []Promise
	for i := range j.Sinks {
		out = append(out, promise(j, &j.Sinks[i]))
	}
	return out
}

func promise(j *graph.Job, s *graph.Sink) Promise {
	give := func(g graph.Guarantee, why string, args ...any) Promise {
		return Promise{s.Name, g, fmt.Sprintf(why, args...)}
	}
	group := groupSource(j, s)
	switch {
	case s.Print != nil:
		return give(graph.AtLeastOnce, "It prints; after a restart the lines since the latest checkpoint come again.")
	case s.Kafka.Guarantee == graph.NoGuarantee:
		return give(graph.NoGuarantee, "The job file asks for none: what a broker does not take is lost.")
	case group != "":
		return give(graph.AtLeastOnce, "Source %s is of mode group: it takes no part in checkpoints, and a crash repeats what its group has not committed.", group)
	case s.Kafka.Guarantee == graph.ExactlyOnce:
		return give(graph.ExactlyOnce, "Each checkpoint is one transaction a subtask, so readers of committed records see each record once, at most %s and a commit later.",
			span(j.Checkpoint.Interval))
	case j.Checkpoint.Interval > 0:
		return give(graph.AtLeastOnce, "After a restart the output since the latest checkpoint is written again; state and counts are exact.")
	case j.CheckpointInterval() > 0:
		return give(graph.AtLeastOnce, "Checkpoints are off: after a restart it goes on at the offsets that were noted last, every %s, and writes again what came after.", span(j.CheckpointInterval()))
	default:
		return give(graph.AtLeastOnce, "Checkpoints are off: after a restart it begins again where the job began, and writes everything again.")
	}
}

// groupSource names a source of mode group that reaches the sink; empty: none does.
func groupSource(j *graph.Job, s *graph.Sink) string {
	from := map[string][]string{}
	for i := range j.Operators {
		from[j.Operators[i].Name] = j.Operators[i].From
	}
	seen := map[string]bool{}
	for ahead := slices.Clone(s.From); len(ahead) > 0; ahead = ahead[1:] {
		name := ahead[0]
		if seen[name] {
			continue
		}
		seen[name] = true
		ahead = append(ahead, from[name]...)
		for i := range j.Sources {
			if k := j.Sources[i].Kafka; j.Sources[i].Name == name && k != nil && k.Mode == graph.ModeGroup {
				return name
			}
		}
	}
	return ""
}

// sinks says what holds for each sink while the job is not over.
func (f *Facts) sinks() []Finding {
	if f.ended() {
		return nil
	}
	var out []Finding
	for _, p := range Promises(f.Graph) {
		out = append(out, Finding{OfSink, OK, p.String(), ""})
	}
	return out
}
