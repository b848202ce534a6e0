package job

import (
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// Intent is what the user has asked for; it outlives restarts of the job and of the job manager. That the
// job is to fail needs no intent: the state FAILING is durable.
type Intent string

// The intents. Cancel overrides stop and drain; the first of those two stays.
const (
	NoIntent     Intent = ""
	IntentStop   Intent = "stop"
	IntentDrain  Intent = "drain"
	IntentCancel Intent = "cancel"
)

// Class says who can mend a failure.
type Class string

// The classes of failures.
const (
	// User: the job or its data, such as an expression that fails on a record.
	User Class = "user"
	// External: the world outside of the job, such as a broker or a lost task manager.
	External Class = "external"
	// Internal: Sluice itself.
	Internal Class = "internal"
	// Fenced: another producer used a transactional id of the running attempt (DESIGN rule 14).
	Fenced Class = "fenced"
)

// Failure is why an attempt, or the job, failed.
type Failure struct {
	At      time.Time `json:"at"`
	Class   Class     `json:"class"`
	Message string    `json:"message"`
	// Subtask is vertex/index; empty if it was not one subtask's.
	Subtask string `json:"subtask,omitempty"`
}

// String prints class, subtask and message.
func (f Failure) String() string {
	if f.Subtask == "" {
		return fmt.Sprintf("%s: %s", f.Class, f.Message)
	}
	return fmt.Sprintf("%s: %s: %s", f.Class, f.Subtask, f.Message)
}

// Record is what is durable of a job's machine. It is a value: the machine never changes what a pointer in
// a Record that it gave out points to.
type Record struct {
	State  State  `json:"state"`
	Intent Intent `json:"intent,omitempty"`
	// Attempt is the newest that was, or is about to be, deployed; 0: none was.
	Attempt ident.Attempt `json:"attempt"`
	// Restarts counts the attempts that were given up for another one.
	Restarts int `json:"restarts"`
	// BudgetUsed is how many restarts count since the job was last healthy.
	BudgetUsed int `json:"budgetUsed"`
	// Fenced counts the attempts in a row that were fenced while they ran.
	Fenced int `json:"fenced,omitempty"`
	// Failure is the newest; nil: none yet.
	Failure *Failure `json:"failure,omitempty"`
	// DataLoss says that Failure is a loss of data, so that the job ends FAILED_DATA_LOSS.
	DataLoss bool `json:"dataLoss,omitempty"`
}

// NewRecord is the record of a job that has been submitted and nothing more.
func NewRecord() Record { return Record{State: Created} }

// String prints what is not zero.
func (r Record) String() string {
	s := fmt.Sprintf("%s attempt=%d", r.State, r.Attempt)
	if r.Intent != NoIntent {
		s += " intent=" + string(r.Intent)
	}
	if r.Restarts > 0 {
		s += fmt.Sprintf(" restarts=%d", r.Restarts)
	}
	if r.BudgetUsed > 0 {
		s += fmt.Sprintf(" budget-used=%d", r.BudgetUsed)
	}
	if r.Fenced > 0 {
		s += fmt.Sprintf(" fenced=%d", r.Fenced)
	}
	if r.Failure != nil {
		s += fmt.Sprintf(" failure=(%s)", r.Failure)
	}
	return s
}
