package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// maxLine bounds a line of a journal: an outcome with the logs of its processes.
const maxLine = 16 << 20

// journal is a file of outcomes, a JSON line each. The whole suite takes hours: with a journal it goes on where it
// ended, and several processes can share it out (--shard), each with a journal of its own.
type journal struct {
	file     *os.File
	outcomes []Outcome
	// done holds the runs that have an outcome.
	done map[string]bool
}

// openJournal reads what journals hold of these revisions, of which the last is the one that is tested, and opens the
// first for more. Without a path nothing is kept. A run of an earlier one that was not right is made again; it stays in
// the report all the same.
func openJournal(paths string, revisions []string) (*journal, error) {
	j := &journal{done: map[string]bool{}}
	if paths == "" {
		return j, nil
	}
	list := strings.Split(paths, ",")
	for _, path := range list {
		if err := j.read(path, revisions); err != nil {
			return nil, err
		}
	}
	var err error
	j.file, err = os.OpenFile(list[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	return j, err
}

func (j *journal) read(path string, revisions []string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		var o Outcome
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
		if !slices.Contains(revisions, o.Revision) {
			continue
		}
		j.outcomes = append(j.outcomes, o)
		if o.OK() || o.Revision == revisions[len(revisions)-1] {
			j.done[runKey(o.Kafka, o.Fault, o.Seed)] = true
		}
	}
	return lines.Err()
}

func runKey(kafka, fault string, seed int64) string {
	return fmt.Sprintf("%s %s %d", kafka, fault, seed)
}

func (j *journal) add(o Outcome) error {
	j.outcomes = append(j.outcomes, o)
	if j.file == nil {
		return nil
	}
	return json.NewEncoder(j.file).Encode(o)
}

// redRuns counts the runs that are not right by their newest outcome.
func redRuns(outcomes []Outcome) int {
	red := map[string]bool{}
	for _, o := range outcomes {
		if key := runKey(o.Kafka, o.Fault, o.Seed); o.OK() {
			delete(red, key)
		} else {
			red[key] = true
		}
	}
	return len(red)
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// revision is the commit that is tested, with a plus for changes that are not committed.
func revision(ctx context.Context) string {
	head, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=+").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(head))
}
