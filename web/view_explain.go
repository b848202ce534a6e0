package web

import "time"

// Lag is `sluice lag NAME -o json` and GET /v1/jobs/NAME/lag.
type Lag struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	State string `json:"state"`
	// Partitions has the furthest behind first, those whose lag is not known last.
	Partitions []PartitionLag `json:"partitions"`
	// Total is the lag of the partitions where it is known, Unknown how many the others are.
	Total   int64 `json:"total"`
	Unknown int32 `json:"unknown"`
}

// PartitionLag is where a source stands in one partition. What is null is not known; Note says why.
type PartitionLag struct {
	Source    string `json:"source"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Position is the next offset to read; PositionFrom says who says so: subtask, checkpoint, start or group.
	Position     *int64 `json:"position"`
	PositionFrom string `json:"positionFrom"`
	// End is the high watermark, StableEnd the last stable offset, Stop where a bounded source ends.
	End         *int64      `json:"end"`
	StableEnd   *int64      `json:"stableEnd"`
	Stop        *int64      `json:"stop"`
	Lag         *int64      `json:"lag"`
	Subtask     string      `json:"subtask"`
	TaskManager string      `json:"taskmanager"`
	Published   []Published `json:"published"`
	Note        string      `json:"note"`
}

// Published is the next offset that stands in a storage for others to see.
type Published struct {
	Storage     string     `json:"storage"`
	Next        *int64     `json:"next"`
	PublishedAt *time.Time `json:"publishedAt"`
	Note        string     `json:"note"`
}

// Explanation is `sluice explain NAME -o json` and GET /v1/jobs/NAME/explain: findings, and the facts that they
// are made of.
type Explanation struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Findings []Finding `json:"findings"`
	Job      Job       `json:"job"`
	Lag      Lag       `json:"lag"`
	// PendingCheckpoint is null while none is being drawn.
	PendingCheckpoint *PendingCheckpoint `json:"pendingCheckpoint"`
	Restart           Restart            `json:"restart"`
	Sinks             []SinkPromise      `json:"sinks"`
	Commits           Commits            `json:"commits"`
	Waits             []SubtaskWait      `json:"waits"`
}

// Finding is one fact in a sentence. Level is ok, waiting or problem.
type Finding struct {
	Subject string `json:"subject"`
	Level   string `json:"level"`
	Text    string `json:"text"`
	Advice  string `json:"advice"`
}

// PendingCheckpoint is the checkpoint that is being drawn.
type PendingCheckpoint struct {
	ID          uint64     `json:"id"`
	TriggeredAt *time.Time `json:"triggeredAt"`
	Acked       int32      `json:"acked"`
	Expected    int32      `json:"expected"`
	Missing     []string   `json:"missing"`
	Reason      string     `json:"reason"`
}

// Restart says how many of the allowed restarts count, and when the delay that runs is over.
type Restart struct {
	Strategy   string     `json:"strategy"`
	BudgetUsed int32      `json:"budgetUsed"`
	Budget     int32      `json:"budget"`
	NextAt     *time.Time `json:"nextAt"`
}

// SinkPromise is what holds for the output of a sink: exactly-once, at-least-once or none.
type SinkPromise struct {
	Sink  string `json:"sink"`
	Holds string `json:"holds"`
	Why   string `json:"why"`
}

// Commits says what of completed checkpoints is not committed, and what of ended attempts not fenced.
type Commits struct {
	Uncommitted int32      `json:"uncommitted"`
	Since       *time.Time `json:"since"`
	Unfenced    int32      `json:"unfenced"`
	Lost        int32      `json:"lost"`
	Reason      string     `json:"reason"`
}

// SubtaskWait says why a subtask makes no progress.
type SubtaskWait struct {
	Subtask     string     `json:"subtask"`
	TaskManager string     `json:"taskmanager"`
	Reason      string     `json:"reason"`
	Since       *time.Time `json:"since"`
}
