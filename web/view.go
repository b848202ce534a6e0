// Package web shows a cluster to people and programs: the JSON of DESIGN 8.1 and 8.3 (the command line
// prints the same), the HTTP API, the metrics.
package web

import "time"

// Job is `sluice job NAME -o json` and GET /v1/jobs/NAME. Numbers of 64 bits are JSON numbers.
type Job struct {
	ID          string      `json:"id"`
	Name        string      `json:"name"`
	State       string      `json:"state"`
	StateSince  *time.Time  `json:"stateSince"`
	SubmittedAt *time.Time  `json:"submittedAt"`
	EndedAt     *time.Time  `json:"endedAt"`
	Attempt     uint64      `json:"attempt"`
	Parallelism int32       `json:"parallelism"`
	Slots       Slots       `json:"slots"`
	Vertices    []Vertex    `json:"vertices"`
	Checkpoints Checkpoints `json:"checkpoints"`
	Restarts    int32       `json:"restarts"`
	Failure     *Failure    `json:"failure"`
	// Waiting lists what the job waits for, in words; empty when it waits for nothing.
	Waiting []string `json:"waiting"`
	// Publications are the places where the offsets of the sources are published.
	Publications []Publication `json:"publications"`
}

// Publication is a place where the offsets of a source are published after each checkpoint.
type Publication struct {
	Source string `json:"source"`
	// Storage is kafka or zookeeper; or group for a source of mode group, whose group keeps the offsets outside of
	// checkpoints: the rest is empty then.
	Storage string `json:"storage"`
	// Checkpoint is the one whose offsets were published last; 0: none since the start of the job manager.
	Checkpoint  uint64     `json:"checkpoint"`
	PublishedAt *time.Time `json:"publishedAt"`
	// Error is why the newest attempt failed, FailingSince when the first of those in a row did.
	Error        string     `json:"error"`
	FailingSince *time.Time `json:"failingSince"`
}

// Slots says how many slots a job needs and has.
type Slots struct {
	Needed       int32      `json:"needed"`
	Held         int32      `json:"held"`
	Free         int32      `json:"free"`
	WaitingSince *time.Time `json:"waitingSince"`
	Explain      string     `json:"explain"`
}

// Vertex is a chain of operators with its subtasks.
type Vertex struct {
	Name        string    `json:"name"`
	Parallelism int32     `json:"parallelism"`
	Operators   []string  `json:"operators"`
	Subtasks    []Subtask `json:"subtasks"`
}

// Subtask is one parallel instance of a vertex.
type Subtask struct {
	Index               int32  `json:"index"`
	State               string `json:"state"`
	TaskManager         string `json:"taskmanager"`
	RecordsIn           int64  `json:"recordsIn"`
	RecordsOut          int64  `json:"recordsOut"`
	BytesIn             int64  `json:"bytesIn"`
	BytesOut            int64  `json:"bytesOut"`
	RecordsSkipped      int64  `json:"recordsSkipped"`
	RecordsDeadLettered int64  `json:"recordsDeadLettered"`
	// RecordsFailed are those that a sink with the guarantee none could not write.
	RecordsFailed int64      `json:"recordsFailed"`
	Waiting       string     `json:"waiting,omitempty"`
	Lag           []SplitLag `json:"lag,omitempty"`
}

// SplitLag is how many records a partition is behind; -1 while unknown.
type SplitLag struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Lag       int64  `json:"lag"`
	// Position is the next offset to read; absent while unknown.
	Position *int64 `json:"position,omitempty"`
}

// Checkpoints sums up the checkpoints of a job.
type Checkpoints struct {
	Completed int64       `json:"completed"`
	Failed    int64       `json:"failed"`
	Restored  uint64      `json:"restored"`
	Latest    *Checkpoint `json:"latest"`
	// Pending says why the pending checkpoint has not completed; empty when none is late.
	Pending string `json:"pending"`
	// LastFailure says why the newest failed checkpoint failed; empty when none has.
	LastFailure string `json:"lastFailure"`
}

// Checkpoint is one completed checkpoint. Offsets is source → topic → partition → next offset to read.
type Checkpoint struct {
	ID          uint64                                 `json:"id"`
	Attempt     uint64                                 `json:"attempt"`
	CompletedAt *time.Time                             `json:"completedAt"`
	DurationMs  int64                                  `json:"durationMs"`
	SizeBytes   int64                                  `json:"sizeBytes"`
	Committed   bool                                   `json:"committed"`
	Final       bool                                   `json:"final"`
	Offsets     map[string]map[string]map[string]int64 `json:"offsets"`
}

// Failure is the last failure of a job. Class is user, external, fenced or internal.
type Failure struct {
	At      *time.Time `json:"at"`
	Class   string     `json:"class"`
	Message string     `json:"message"`
	Subtask string     `json:"subtask"`
}

// TaskManager is one row of GET /v1/taskmanagers.
type TaskManager struct {
	ID            string     `json:"id"`
	State         string     `json:"state"`
	Slots         int32      `json:"slots"`
	FreeSlots     int32      `json:"freeSlots"`
	DataAddress   string     `json:"dataAddress"`
	HTTPAddress   string     `json:"httpAddress"`
	ConnectedAt   *time.Time `json:"connectedAt"`
	LastHeartbeat *time.Time `json:"lastHeartbeat"`
	Jobs          []string   `json:"jobs"`
	Version       string     `json:"version"`
}
