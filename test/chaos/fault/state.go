package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

const (
	// With keys of this kind the state of a subtask is too large for a manifest, and goes into files.
	largeKeys, largeKeyBytes = 3000, 300
	// refusedFor is how long a wrong state file stays in place.
	refusedFor = 5 * time.Second
)

// stateFaults are F19: state of something else is refused by the names of what is wrong.
func stateFaults() []Fault {
	counts := []workload.Kind{workload.B}
	return []Fault{
		{
			ID: "F19", Variant: "file", What: "the state files of two subtasks are exchanged while the job manager is down", Kinds: counts, Inject: exchangeFiles,
			Tune:   func(t *Tuning) { t.Keys, t.KeyBytes = largeKeys, largeKeyBytes },
			Expect: Expect{MinAttempts: 1, MaxAttempts: 30, States: []string{running}},
		},
		{
			ID: "F19", Variant: "job", What: "jobs with other sources, operators or key groups are to take over a checkpoint", Kinds: counts, Inject: adoptWrongly,
			Alone: true, Expect: Expect{Final: canceled},
		},
	}
}

// exchangeFiles lets the job manager find whole files, each in the place of the other. It must not run from them, and
// goes on from the right ones.
func exchangeFiles(ctx context.Context, s *Scene) error {
	dir := filepath.Join(s.DataDir(), "blobs", s.Job)
	if err := awaitFiles(ctx, dir); err != nil {
		return err
	}
	before, err := s.attempt(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	if err := s.KillJobManager(); err != nil {
		return err
	}
	pairs, err := statePairs(dir)
	if err == nil {
		err = exchange(pairs)
	}
	if err != nil {
		return err
	}
	if err := s.StartJobManager(); err != nil {
		return err
	}
	if _, err := s.WaitFor(ctx, s.Job, "refusing its state", patience, func(j *cluster.Job) bool {
		return j.Attempt > before && says(j, []string{"state of last", "the manifest says"})
	}); err != nil {
		return err
	}
	refused, err := s.now(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, refusedFor); err != nil {
		return err
	}
	still, err := s.now(ctx)
	if err == nil && still.LatestID() != refused.LatestID() {
		err = fmt.Errorf("the job completed checkpoint %d with the state of other subtasks", still.LatestID())
	}
	if err := errors.Join(err, exchange(pairs)); err != nil {
		return err
	}
	_, err = s.WaitFor(ctx, s.Job, "past a checkpoint", patience, func(j *cluster.Job) bool { return j.LatestID() > refused.LatestID() })
	return err
}

// awaitFiles waits until the state is so large that it stands in files.
func awaitFiles(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if pairs, err := statePairs(dir); err == nil && len(pairs) >= 2 { // of two checkpoints
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for state files in %s: %w", dir, err)
		}
	}
}

// statePairs are the files, CHECKPOINT-OPERATOR-INDEX-RANDOM, of two subtasks in the same checkpoint.
func statePairs(dir string) ([][2]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("looking for state files: %w", err)
	}
	found := map[string][]string{}
	for _, entry := range entries {
		parts := strings.Split(entry.Name(), "-")
		if len(parts) == 4 {
			key := parts[0] + "-" + parts[1]
			found[key] = append(found[key], filepath.Join(dir, entry.Name()))
		}
	}
	var pairs [][2]string
	for _, files := range found {
		if len(files) == 2 {
			pairs = append(pairs, [2]string{files[0], files[1]})
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("%s holds no files of two subtasks in the same checkpoint", dir)
	}
	return pairs, nil
}

// exchange gives each file of a pair the name of the other.
func exchange(pairs [][2]string) error {
	for _, pair := range pairs {
		aside := pair[0] + ".aside"
		for _, move := range [][2]string{{pair[0], aside}, {pair[1], pair[0]}, {aside, pair[1]}} {
			if err := os.Rename(move[0], move[1]); err != nil {
				return fmt.Errorf("exchanging state files: %w", err)
			}
		}
	}
	return nil
}

// adoptWrongly cancels the job, and submits others from its checkpoint, none of which it fits.
func adoptWrongly(ctx context.Context, s *Scene) error {
	s.Begin()
	result, err := s.Sluice(ctx, "cancel", s.Job)
	if err != nil {
		return err
	}
	if result.Code != 0 {
		return fmt.Errorf("cancel: exit code %d: %s", result.Code, result.Stderr)
	}
	job, err := s.state(ctx, canceled)
	if err != nil {
		return err
	}
	checkpoint := fmt.Sprintf("%s/%d", s.Job, job.LatestID())
	file := s.Workload.JobFile()
	for _, wrong := range []struct {
		what  string
		file  string
		words []string
	}{
		{"operator", strings.NewReplacer("  last: {", "  other: {", "from: last\n", "from: other\n").Replace(file), []string{checkpoint, "state of operator last"}},
		{"source", strings.NewReplacer("  in:\n", "  other:\n", "[in, compacted]", "[other, compacted]").Replace(file), []string{checkpoint, "position of source in, topic " + s.Workload.In()}},
		{"key-groups", "maxParallelism: 64\n" + file, []string{checkpoint, "its state has 128 key groups, the job 64"}},
	} {
		id, err := s.Submit(ctx, wrong.what, wrong.file, "--from-checkpoint", checkpoint)
		if err == nil {
			return fmt.Errorf("a job with another %s took over checkpoint %s as %s", wrong.what, checkpoint, id)
		}
		for _, word := range wrong.words {
			if !strings.Contains(err.Error(), word) {
				return fmt.Errorf("the refusal of another %s does not say %q: %w", wrong.what, word, err)
			}
		}
	}
	return nil
}
