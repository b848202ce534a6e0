package jobmanager

import (
	"context"
	"math"
	"time"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/jobmanager/publish"
)

// stepPublish applies an event to the publishing of offsets and carries out what it says. The last offsets go
// before a job ends, so that a job that is submitted next finds them, and nothing of an ended job happens any
// more.
func (r *runner) stepPublish(ctx context.Context, now time.Time, ev publish.Event) {
	for _, eff := range r.publisher.Step(now, ev) {
		switch e := eff.(type) {
		case publish.Publish:
			r.publishOffsets(ctx, e)
		case publish.Ended:
			r.enqueue(job.CleanedUp{})
		}
	}
}

func (r *runner) publishOffsets(ctx context.Context, e publish.Publish) {
	r.beside(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, e.Timeout)
		defer cancel()
		if err := failpoint.Hit(failpoint.BeforePublish); err != nil {
			return err
		}
		if err := r.m.connector.PublishOffsets(ctx, r.graph, e.To, e.Manifest); err != nil {
			return err
		}
		return failpoint.Hit(failpoint.AfterPublish)
	}, func(now time.Time, err error) {
		r.notePublished(now, e, err)
		r.enqueue(publish.Published{To: e.To, Checkpoint: e.Manifest.Checkpoint, Err: err})
	})
}

// notePublished logs a write if it ends otherwise than the one before.
func (r *runner) notePublished(now time.Time, e publish.Publish, err error) {
	before := r.publicationOf(e.To)
	args := []any{"source", e.To.Source, "storage", string(e.To.Storage), "checkpoint", e.Manifest.Checkpoint}
	switch {
	case err == nil:
		r.decisions.note("published", "checkpoint", uint64(e.Manifest.Checkpoint), "source", e.To.Source, "storage", string(e.To.Storage))
		if before.Error != "" {
			r.log.Info("offsets are published again", append(args, "failedForMs", now.Sub(before.FailedSince).Milliseconds())...)
		}
	case err.Error() != before.Error:
		r.log.Warn("publish offsets; the job goes on, and they are tried again", append(args, "reason", err)...)
	}
}

func (r *runner) publicationOf(to graph.Publication) publish.Status {
	for _, s := range r.publisher.Status() {
		if s.Publication == to {
			return s
		}
	}
	return publish.Status{Publication: to}
}

// checkpointConfig is when checkpoints are drawn. One that is drawn only for what it says about offsets is no
// reason to fail the attempt when it does not complete: the offsets stay where they are, visibly.
func checkpointConfig(j *graph.Job) checkpoint.Config {
	c := checkpoint.Config{
		Interval: j.CheckpointInterval(), Timeout: j.Checkpoint.Timeout, MinPause: j.Checkpoint.MinPause, TolerableFailures: j.Checkpoint.TolerableFailures,
	}
	if j.Checkpoint.Interval == 0 && c.Interval > 0 {
		c.TolerableFailures = math.MaxInt
	}
	return c
}

// publishedAnew is the newest checkpoint of an earlier start of the job manager if nothing is left to commit of
// it: that start may have ended before it was published. Nil: there is none, or it will be announced.
func publishedAnew(before past) *manifest.Manifest {
	latest := before.checkpoints.Latest
	if !before.recovered || latest == nil || latest.Checkpoint == 0 || len(before.commits.Unmarked) > 0 {
		return nil
	}
	return latest
}
