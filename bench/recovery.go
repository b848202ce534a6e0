package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluice-stream/sluice/web"
)

const (
	// recoveryRate is the traffic while task managers are killed: enough that a record is always under way.
	recoveryRate    = 2000
	recoveryTimeout = 60 * time.Second
)

// Recovery is one kill -9 of a task manager. Milliseconds. A record is new if it was made after the
// process was gone; the times end when a reader of the output has it.
type Recovery struct {
	// FirstMs is the first new record in a partition that the killed task manager had, since the signal.
	FirstMs float64 `json:"firstMs"`
	// AllMs is until every partition has had a new record, since the signal.
	AllMs float64 `json:"allMs"`
	// SlotToFirstMs and SlotToAllMs are the same since the ready line of the replacement, when one was
	// needed; ProcessToFirstMs is since before its process was made.
	SlotToFirstMs    float64 `json:"slotToFirstMs,omitempty"`
	SlotToAllMs      float64 `json:"slotToAllMs,omitempty"`
	ProcessToFirstMs float64 `json:"processToFirstMs,omitempty"`
	// WaitingMs is from the signal until the job was seen WAITING_FOR_SLOTS.
	WaitingMs float64 `json:"waitingMs,omitempty"`
	Load1     float64 `json:"loadAverage1"` // at the end
}

// RecoveryReport holds both kinds of recoveries.
type RecoveryReport struct {
	SpareSlots  []Recovery `json:"spareSlots"`
	MissingSlot []Recovery `json:"missingSlot"`
}

// recovery kills task managers under a running pass-through job, with and without spare slots.
func (b *bench) recovery(ctx context.Context) (RecoveryReport, error) {
	var report RecoveryReport
	var err error
	if report.SpareSlots, err = b.kills(ctx, "spare", true); err != nil {
		return report, fmt.Errorf("recovery: %w", err)
	}
	if report.MissingSlot, err = b.kills(ctx, "missing", false); err != nil {
		return report, fmt.Errorf("recovery: %w", err)
	}
	return report, nil
}

// drill is one cluster with its job, of which a task manager is killed.
type drill struct {
	b       *bench
	cluster *cluster
	traffic *traffic
	spare   bool // there are slots for the subtasks of the killed task manager
}

// kills repeats one kind of drill. Each has a cluster and a job of its own: the restart policy makes a job
// that fails again and again wait longer each time, which is not what is measured here.
func (b *bench) kills(ctx context.Context, name string, spare bool) (out []Recovery, err error) {
	t, err := startTraffic(ctx, b.broker, "recovery-"+name, recoveryRate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	for i := range b.opts.kills {
		stepCtx, cancel := context.WithTimeoutCause(ctx, recoveryTimeout, fmt.Errorf("kill %d took longer than %s", i+1, recoveryTimeout))
		r, err := b.killOnce(stepCtx, t, spare)
		cancel()
		if err != nil {
			return out, fmt.Errorf("kill %d, %s: %w", i+1, name, err)
		}
		b.say("kill %2d, slots %-7s: first new output %.0f ms after the kill, all partitions %.0f ms%s", i+1, name, r.FirstMs, r.AllMs, slotText(&r))
		out = append(out, r)
	}
	return out, nil
}

func (b *bench) killOnce(ctx context.Context, t *traffic, spare bool) (r Recovery, err error) {
	d := &drill{b: b, traffic: t, spare: spare}
	workers := partitions / slotsPerTM
	if spare {
		workers++
	}
	if d.cluster, err = startCluster(b.programs, workers); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.cluster.close()) }()
	spec := jobSpec{broker: b.broker.addr, source: t.source, target: t.target, startup: "latest", interval: b.opts.interval.String()}
	if _, err := d.cluster.submit(ctx, spec.yaml()); err != nil {
		return r, err
	}
	return d.run(ctx)
}

func slotText(r *Recovery) string {
	if r.SlotToFirstMs == 0 {
		return ""
	}
	return fmt.Sprintf("; %.0f ms after the missing slots were there", r.SlotToFirstMs)
}

// settle waits until the job runs, has drawn a checkpoint and passes records on in every
// partition, then for a moment, so that kills fall anywhere between two checkpoints.
func (d *drill) settle(ctx context.Context) (web.Job, error) {
	_, err := d.cluster.waitJob(ctx, "past a checkpoint", func(j *web.Job) bool { return j.State == "RUNNING" && j.Checkpoints.Completed > 0 })
	if err != nil {
		return web.Job{}, err
	}
	d.traffic.watch()
	if _, err := d.traffic.all(ctx); err != nil {
		return web.Job{}, err
	}
	time.Sleep(time.Duration(rand.Int64N(int64(d.b.opts.interval))))
	return d.cluster.waitJob(ctx, "known by its partitions", func(j *web.Job) bool { return len(readBy(j, "")) == partitions })
}

// readBy lists the partitions that the subtasks of a task manager read, of all of them when id is empty.
// Task managers report them some time after the start of an attempt.
func readBy(job *web.Job, id string) []int32 {
	var out []int32
	for _, s := range job.Vertices[0].Subtasks {
		for _, lag := range s.Lag {
			if id == "" || s.TaskManager == id {
				out = append(out, lag.Partition)
			}
		}
	}
	return out
}

// victim picks a task manager that runs subtasks and lists the partitions that it reads.
func (d *drill) victim(job *web.Job) (*taskManager, []int32, error) {
	subtasks := job.Vertices[0].Subtasks
	id := subtasks[rand.IntN(len(subtasks))].TaskManager
	tm, err := d.cluster.taskManager(id)
	if err != nil {
		return nil, nil, err
	}
	lost := readBy(job, id)
	if len(lost) == 0 {
		return nil, nil, fmt.Errorf("%s runs a subtask of the job and reads no partition", id)
	}
	return tm, lost, nil
}

// kill kills and watches from the moment when the process is gone, so that nothing it wrote counts.
func (d *drill) kill(ctx context.Context) (at time.Time, lost []int32, err error) {
	job, err := d.settle(ctx)
	if err != nil {
		return at, nil, err
	}
	tm, lost, err := d.victim(&job)
	if err != nil {
		return at, nil, err
	}
	at = time.Now()
	if err := d.cluster.kill9(tm); err != nil {
		return at, nil, err
	}
	d.traffic.watch()
	return at, lost, nil
}

// firstAndAll picks the earliest arrival of the lost partitions and the latest of all.
func firstAndAll(arrived [partitions]time.Time, lost []int32) (first, all time.Time) {
	first = arrived[lost[0]]
	for _, p := range lost {
		if arrived[p].Before(first) {
			first = arrived[p]
		}
	}
	for _, at := range arrived {
		if at.After(all) {
			all = at
		}
	}
	return first, all
}

// run kills, lets a replacement come if it is needed, and waits for new output.
func (d *drill) run(ctx context.Context) (r Recovery, err error) {
	at, lost, err := d.kill(ctx)
	if err != nil {
		return r, err
	}
	var replacement *taskManager
	if !d.spare {
		if _, err := d.cluster.waitJob(ctx, "WAITING_FOR_SLOTS", func(j *web.Job) bool { return j.State == "WAITING_FOR_SLOTS" }); err != nil {
			return r, err
		}
		r.WaitingMs = ms(time.Since(at))
		time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
		if replacement, err = d.cluster.startTaskManager("replacement"); err != nil {
			return r, err
		}
	}
	arrived, err := d.traffic.all(ctx)
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, d.cluster.logs())
	}
	first, all := firstAndAll(arrived, lost)
	r.Load1 = loadAverage()
	r.FirstMs, r.AllMs = ms(first.Sub(at)), ms(all.Sub(at))
	if replacement != nil {
		r.SlotToFirstMs, r.SlotToAllMs = ms(first.Sub(replacement.ready)), ms(all.Sub(replacement.ready))
		r.ProcessToFirstMs = ms(first.Sub(replacement.started))
	}
	return r, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
