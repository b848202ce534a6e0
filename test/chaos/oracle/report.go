package oracle

import (
	"encoding/json"
	"fmt"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// Report is what the oracle found in one run; as JSON it is one object. Times that were not seen are null.
type Report struct {
	Seed     int64         `json:"seed"`
	Workload workload.Kind `json:"workload"`
	Faults   []string      `json:"faults"`

	// RecordsIn are the committed records of the input, those that compaction dropped included; RecordsOut those of
	// the output.
	RecordsIn  int64 `json:"recordsIn"`
	RecordsOut int64 `json:"recordsOut"`

	// Lost outputs should be there and are not; Duplicates are there again; Phantoms come from no record of the
	// input, or say something else than the model.
	Lost       int64 `json:"lost"`
	Duplicates int64 `json:"duplicates"`
	OutOfOrder int64 `json:"outOfOrder"`
	Phantoms   int64 `json:"phantoms"`
	// WrongCounts are records of workload B whose count is not the one before plus one.
	WrongCounts int64 `json:"wrongCounts"`
	// ReaderMismatch counts records that a live reader saw otherwise than the final scan: other bytes, twice,
	// not at all, or only the reader.
	ReaderMismatch int64 `json:"readerMismatch"`

	// The times count from the fault, the longest one where there were several: until the job manager
	// acted, until it deployed anew, until the next committed output after that. See Event.
	DetectMs      *int64 `json:"detectMs"`
	RedeployMs    *int64 `json:"redeployMs"`
	FirstOutputMs *int64 `json:"firstOutputMs"`
	// LSOStallMs is the longest time in which the first live reader got nothing from one output partition, between the
	// first record it got from it and the end of the load (Event LoadStopped). The load is steady and reaches
	// all partitions, so the source had data all that time.
	LSOStallMs int64 `json:"lsoStallMs"`

	CheckpointsCompleted int `json:"checkpointsCompleted"`
	CheckpointsFailed    int `json:"checkpointsFailed"`
	// DecisionFaults counts the rules that the job manager's decision log breaks, Leaks what processes did not give
	// back.
	DecisionFaults int `json:"decisionFaults"`
	Leaks          int `json:"leaks"`

	Verdict Verdict `json:"verdict"`
}

// Verdict holds the reasons why a run is not right; none: it is. As JSON it is "ok" or the list.
type Verdict []string

// MarshalJSON is json.Marshaler's.
func (v Verdict) MarshalJSON() ([]byte, error) {
	if len(v) == 0 {
		return []byte(`"ok"`), nil
	}
	return json.Marshal([]string(v))
}

// UnmarshalJSON is json.Unmarshaler's.
func (v *Verdict) UnmarshalJSON(text []byte) error {
	if string(text) == `"ok"` {
		*v = nil
		return nil
	}
	return json.Unmarshal(text, (*[]string)(v))
}

// OK tells that nothing is wrong.
func (r *Report) OK() bool { return len(r.Verdict) == 0 }

// maxExamples is how many examples of one kind of violation a report names.
const maxExamples = 5

// tally counts violations of one kind and keeps the first ones.
type tally struct {
	count    int64
	examples []string
}

func (t *tally) add(format string, args ...any) {
	t.count++
	if len(t.examples) < maxExamples {
		t.examples = append(t.examples, fmt.Sprintf(format, args...))
	}
}

// reasons is one line for the count and one for each example.
func (t *tally) reasons(what string) []string {
	if t.count == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("%s: %d", what, t.count)}
	for _, e := range t.examples {
		lines = append(lines, what+": "+e)
	}
	return lines
}
