package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// journal reads the log of the job manager, at the level debug: when jobs changed their states, when checkpoints
// were triggered and how long they took to be durable. It costs the job manager two lines per checkpoint.
type journal struct {
	file *os.File
	rest []byte // a line that is not complete yet

	state     map[string]time.Time // of the newest job, when it came to each state
	triggered map[ident.CheckpointID]time.Time
	durable   map[ident.CheckpointID]time.Duration // after its trigger
	failed    []string                             // checkpoints of the newest job that failed, and why
	restarts  []string                             // of all jobs, and why
	lost      []string                             // task managers, and why
}

// entry is one line of the log.
type entry struct {
	At         time.Time          `json:"time"`
	Message    string             `json:"msg"`
	To         string             `json:"to"`
	Checkpoint ident.CheckpointID `json:"checkpoint"`
	Duration   time.Duration      `json:"duration"`
	Reason     string             `json:"reason"`
}

func openJournal(path string) (*journal, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the log of the job manager: %w", err)
	}
	j := &journal{file: file}
	j.begin()
	return j, nil
}

// begin forgets the job before.
func (j *journal) begin() {
	j.state, j.triggered, j.durable, j.failed = map[string]time.Time{}, map[ident.CheckpointID]time.Time{}, map[ident.CheckpointID]time.Duration{}, nil
}

// read takes what has been written since.
func (j *journal) read() error {
	fresh, err := io.ReadAll(j.file)
	if err != nil {
		return fmt.Errorf("reading the log of the job manager: %w", err)
	}
	j.rest = append(j.rest, fresh...)
	for {
		line, rest, complete := bytes.Cut(j.rest, []byte("\n"))
		if !complete {
			return nil
		}
		j.rest = rest
		if err := j.line(line); err != nil {
			return err
		}
	}
}

func (j *journal) line(line []byte) error {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("reading the log of the job manager: %q: %w", line, err)
	}
	switch e.Message {
	case "job state":
		j.state[e.To] = e.At
		if e.To == "RESTARTING" || e.To == "FAILING" {
			j.restarts = append(j.restarts, e.Reason)
		}
	case "checkpoint triggered":
		j.triggered[e.Checkpoint] = e.At
	case "checkpoint completed":
		j.durable[e.Checkpoint] = e.Duration
	case "checkpoint failed":
		j.failed = append(j.failed, fmt.Sprintf("checkpoint %d: %s", e.Checkpoint, e.Reason))
	case "task manager lost":
		j.lost = append(j.lost, e.Reason)
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }
