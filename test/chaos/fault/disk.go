package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

const (
	smallDiskBytes = 16 << 20
	// keptAll is more checkpoints than a run draws: with all of them kept the database has no pages to use again.
	keptAll = 200
	// diskTrouble is how long a disk stays full.
	diskTrouble = 10 * time.Second
	// A write takes so much longer on a slow disk, and on one that is stuck.
	slowWrite, stuckWrite = 2 * time.Second, 20 * time.Second
	database              = "checkpoints.db"
	pageBytes             = 4096
	// refusedWithin bounds how long a job manager looks at a data directory that it refuses.
	refusedWithin = 30 * time.Second
)

func diskFaults() []Fault {
	takeOver := Expect{MinAttempts: 1, MaxAttempts: 2, States: []string{running}}
	return []Fault{
		{ID: "F14", What: "the disk of the job manager is full", Tune: func(t *Tuning) { t.DiskBytes, t.Retain = smallDiskBytes, keptAll }, Inject: fillDisk},
		{
			ID: "F14", Variant: "files", What: "the disk of the job manager is full, and the state of each checkpoint needs new files", Kinds: []workload.Kind{workload.B},
			Tune: func(t *Tuning) {
				t.DiskBytes, t.Keys, t.KeyBytes = smallDiskBytes, largeKeys, largeKeyBytes
			},
			Inject: func(ctx context.Context, s *Scene) error {
				if err := awaitFiles(ctx, filepath.Join(s.DataDir(), "blobs", s.Job)); err != nil {
					return err
				}
				return fillDisk(ctx, s)
			},
		},
		{
			ID: "F15", What: "a write to the job manager's disk has an unknown outcome, once",
			Tune: func(t *Tuning) {
				t.JobManagerEnv = []string{passage(failpoint.BetweenWitness, failOnce, passagesOf(failpoint.BetweenWitness))}
			},
			Inject: unknownWrite, Expect: takeOver,
		},
		{
			ID: "F16", Variant: "slow", What: "each write of the job manager to its disk takes two seconds longer",
			Tune:   func(t *Tuning) { t.JobManagerEnv = []string{passage(failpoint.BetweenWitness, pauseFor(slowWrite), 0)} },
			Inject: func(ctx context.Context, s *Scene) error { return slowWrites(ctx, s, slowWrite) },
		},
		{
			ID: "F16", Variant: "stuck", What: "a checkpoint takes 20 s to be written, which is longer than it may take to be acknowledged",
			Tune: func(t *Tuning) {
				t.CheckpointTimeout = stuckWrite / 2
				t.JobManagerEnv = []string{passage(failpoint.BeforePersist, pauseFor(stuckWrite), passagesOf(failpoint.BeforePersist))}
			},
			Inject: stuckCheckpoint,
		},
		{
			ID: "F16", Variant: "all-stuck", What: "some write of the job manager to its disk takes 20 s, and all that come after it wait",
			Tune: func(t *Tuning) {
				t.JobManagerEnv = []string{passage(failpoint.BetweenWitness, pauseFor(stuckWrite), passagesOf(failpoint.BetweenWitness))}
			},
			Inject: func(ctx context.Context, s *Scene) error {
				if err := fired(ctx, s.JobManager(), failpoint.BetweenWitness); err != nil {
					return err
				}
				s.Begin()
				return pause(ctx, stuckWrite)
			},
		},
		{ID: "F18", Variant: "flip", What: "a bit of the database is flipped", Inject: damaged(flipBits), Expect: takeOver},
		{ID: "F18", Variant: "zeroed", What: "pages of the database are zeroed", Inject: damaged(zeroPages), Expect: takeOver},
		{ID: "F18", Variant: "truncated", What: "the database is cut in half", Inject: damaged(truncate), Expect: takeOver},
		{ID: "F18", Variant: "deleted", What: "the database is deleted", Inject: damaged(func(_ *Scene, f, _ string) error { return os.Remove(f) }, "witness"), Expect: takeOver},
		{ID: "F18", Variant: "old", What: "an older copy of the database is put back", Inject: damaged(func(_ *Scene, f, old string) error { return copyFile(old, f) }, "witness"), Expect: takeOver},
		{ID: "F18", Variant: "two", What: "a second job manager is started on the same directory", Inject: secondJobManager},
	}
}

// fillDisk leaves no byte free for a while. The checkpoint that cannot be written stays pending.
func fillDisk(ctx context.Context, s *Scene) error {
	ballast := filepath.Join(filepath.Dir(s.DataDir()), "ballast")
	s.Begin()
	file, err := os.Create(ballast)
	if err != nil {
		return fmt.Errorf("filling the disk: %w", err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = file.Write(block)
	}
	if err := file.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("filling the disk: %w", err)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("filling the disk: %w", err)
	}
	job, err := s.WaitFor(ctx, s.Job, "in trouble for want of space", diskTrouble, func(j *cluster.Job) bool { return says(j, []string{"no space left"}) })
	if err != nil {
		return errors.Join(err, os.Remove(ballast))
	}
	if err := errors.Join(pause(ctx, diskTrouble), os.Remove(ballast)); err != nil {
		return err
	}
	if _, err := s.WaitFor(ctx, s.Job, "past the checkpoint that waited", patience, func(j *cluster.Job) bool { return j.LatestID() > job.LatestID()+1 }); err != nil {
		return err
	}
	return s.noneFailed(ctx, job.Checkpoints.Failed)
}

// slowWrites has some checkpoints written by a slow disk. Each takes longer, as the metric says, and none fails.
func slowWrites(ctx context.Context, s *Scene, each time.Duration) error {
	s.Begin()
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	count, sum, err := s.checkpointDurations(ctx)
	if err != nil {
		return err
	}
	if _, err := s.WaitFor(ctx, s.Job, "three checkpoints further", patience, func(j *cluster.Job) bool { return j.LatestID() > before.LatestID()+2 }); err != nil {
		return err
	}
	countAfter, sumAfter, err := s.checkpointDurations(ctx)
	if err != nil {
		return err
	}
	if mean := (sumAfter - sum) / (countAfter - count); !(mean >= each.Seconds()) {
		return fmt.Errorf("checkpoints took %.1f s by the metric, each write takes %s", mean, each)
	}
	return s.noneFailed(ctx, before.Checkpoints.Failed)
}

// stuckCheckpoint waits for the checkpoint whose write is stuck. It is whole, so it completes, late as it is.
func stuckCheckpoint(ctx context.Context, s *Scene) error {
	if err := fired(ctx, s.JobManager(), failpoint.BeforePersist); err != nil {
		return err
	}
	s.Begin()
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	_, sum, err := s.checkpointDurations(ctx)
	if err != nil {
		return err
	}
	if _, err := s.WaitFor(ctx, s.Job, "past the checkpoint that is stuck", patience, func(j *cluster.Job) bool { return j.LatestID() > before.LatestID()+1 }); err != nil {
		return err
	}
	_, after, err := s.checkpointDurations(ctx)
	if err == nil && after-sum < stuckWrite.Seconds() {
		err = fmt.Errorf("checkpoints took %.1f s by the metric, one of them %s to be written", after-sum, stuckWrite)
	}
	return errors.Join(err, s.noneFailed(ctx, before.Checkpoints.Failed))
}

// checkpointDurations are how many checkpoints the job manager has completed, and how many seconds they took together.
func (s *Scene) checkpointDurations(ctx context.Context) (count, sum float64, err error) {
	metrics, err := s.Metrics(ctx, rig.JobManager)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(metrics) {
		for prefix, to := range map[string]*float64{"sluice_checkpoint_duration_seconds_count{": &count, "sluice_checkpoint_duration_seconds_sum{": &sum} {
			if fields := strings.Fields(line); strings.HasPrefix(line, prefix) {
				value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
				if err != nil {
					return 0, 0, fmt.Errorf("the metric %q: %w", strings.TrimSpace(line), err)
				}
				*to += value
			}
		}
	}
	return count, sum, nil
}

// unknownWrite waits until the job manager has met the error: it ends, as only a start reads the truth.
func unknownWrite(ctx context.Context, s *Scene) error {
	p := s.JobManager()
	if err := fired(ctx, p, failpoint.BetweenWitness); err != nil {
		return err
	}
	s.Begin()
	select {
	case <-p.Done():
	case <-time.After(refusedWithin):
		return fmt.Errorf("the job manager lives on after a write of unknown outcome")
	}
	if p.ExitCode() == 0 {
		return errors.New("the job manager ended with code 0 after a write of unknown outcome, want another")
	}
	return s.StartJobManager()
}

// damaged kills the job manager and damages its database: it must refuse to start, by the file and whatever else tells what
// is wrong. With the true database it goes on.
func damaged(damage func(s *Scene, file, old string) error, names ...string) func(context.Context, *Scene) error {
	return func(ctx context.Context, s *Scene) error {
		file := filepath.Join(s.DataDir(), database)
		old, good := file+".old", file+".good"
		if err := copyFile(file, old); err != nil {
			return err
		}
		before, err := s.now(ctx)
		if err != nil {
			return err
		}
		if _, err := s.WaitFor(ctx, s.Job, "three checkpoints further", patience, func(j *cluster.Job) bool { return j.LatestID() > before.LatestID()+2 }); err != nil {
			return err
		}
		s.Begin()
		if err := s.KillJobManager(); err != nil {
			return err
		}
		if err := errors.Join(copyFile(file, good), damage(s, file, old)); err != nil {
			return err
		}
		if err := s.refuse(ctx, append(names, file)...); err != nil {
			return err
		}
		if err := os.Rename(good, file); err != nil {
			return fmt.Errorf("repairing the database: %w", err)
		}
		return s.StartJobManager()
	}
}

// refuse starts a job manager that must end by itself with an error that names all of what is wrong.
func (s *Scene) refuse(ctx context.Context, names ...string) error {
	p, err := s.SpawnJobManager("refused")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, refusedWithin)
	defer cancel()
	select {
	case <-p.Done():
	case <-ctx.Done():
		return errors.Join(errors.New("the job manager does not refuse its data directory"), p.Kill9())
	}
	silent := func(name string) bool { return !strings.Contains(p.Stderr(), name) }
	if p.ExitCode() <= 0 || slices.ContainsFunc(names, silent) {
		return fmt.Errorf("the job manager ended with code %d, and a message that should name %s: %s", p.ExitCode(), strings.Join(names, " and "), p.Tail(2048))
	}
	return nil
}

func secondJobManager(ctx context.Context, s *Scene) error {
	s.Begin()
	return s.refuse(ctx, fmt.Sprint(s.JobManager().Pid()))
}

// flipBits flips a bit in every copy of the name of the output: at least one is of a record that is read.
func flipBits(s *Scene, file, _ string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("damaging the database: %w", err)
	}
	name := []byte(s.Workload.Out())
	if !bytes.Contains(data, name) {
		return fmt.Errorf("damaging the database: %s does not hold %s", file, name)
	}
	damaged := bytes.ReplaceAll(data, name, append([]byte{name[0] ^ 1}, name[1:]...))
	return os.WriteFile(file, damaged, 0o600)
}

// zeroPages zeroes each page that holds the name of the output: at least one is of a record that is read.
func zeroPages(s *Scene, file, _ string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("damaging the database: %w", err)
	}
	name, zeroed := []byte(s.Workload.Out()), false
	for page := range slices.Chunk(data, pageBytes) {
		if bytes.Contains(page, name) {
			clear(page)
			zeroed = true
		}
	}
	if !zeroed {
		return fmt.Errorf("damaging the database: %s does not hold %s", file, name)
	}
	return os.WriteFile(file, data, 0o600)
}

// truncate cuts off half of what is written: behind it are pages that the database has for later.
func truncate(_ *Scene, file, _ string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("damaging the database: %w", err)
	}
	return os.Truncate(file, int64(len(bytes.TrimRight(data, "\x00")))/2)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copying the database: %w", err)
	}
	return os.WriteFile(to, data, 0o600)
}
