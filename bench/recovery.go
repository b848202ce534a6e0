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
	report.SpareSlots, err = b.kills(ctx, "spare", partitions/slotsPerTM+1, (*drill).withSpare)
	if err != nil {
		return report, fmt.Errorf("recovery with spare slots: %w", err)
	}
	report.MissingSlot, err = b.kills(ctx, "missing", partitions/slotsPerTM, (*drill).withoutSpare)
	if err != nil {
		return report, fmt.Errorf("recovery without spare slots: %w", err)
	}
	return report, nil
}

// drill is one cluster with its job, in which task managers are killed.
type drill struct {
	b       *bench
	cluster *cluster
	traffic *traffic
	next    int    // number of the next task manager
	attempt uint64 // that runs
}

// kills runs one kind of drill as often as wanted, on one cluster.
func (b *bench) kills(ctx context.Context, name string, workers int, kind func(*drill, context.Context) (Recovery, error)) (out []Recovery, err error) {
	d := &drill{b: b, next: workers + 1}
	if d.cluster, err = startCluster(b.programs, workers); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.cluster.close()) }()
	if d.traffic, err = startTraffic(ctx, b.broker, "recovery-"+name, recoveryRate); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.traffic.close()) }()
	spec := jobSpec{broker: b.broker.addr, source: d.traffic.source, target: d.traffic.target, startup: "earliest", interval: b.opts.interval.String()}
	if _, err := d.cluster.submit(ctx, spec.yaml()); err != nil {
		return nil, err
	}
	for i := range b.opts.kills {
		stepCtx, cancel := context.WithTimeoutCause(ctx, recoveryTimeout, fmt.Errorf("kill %d took longer than %s", i+1, recoveryTimeout))
		r, err := kind(d, stepCtx)
		cancel()
		if err != nil {
			return out, err
		}
		b.say("kill %2d, %-7s slots: first new output %.0f ms after the kill, all partitions %.0f ms%s", i+1, name, r.FirstMs, r.AllMs, slotText(&r))
		out = append(out, r)
	}
	return out, nil
}

func slotText(r *Recovery) string {
	if r.SlotToFirstMs == 0 {
		return ""
	}
	return fmt.Sprintf("; %.0f ms after the missing slots were there", r.SlotToFirstMs)
}

// settle waits until the job runs, has drawn a checkpoint in this attempt and passes records on in every
// partition, then for a moment, so that kills fall anywhere between two checkpoints.
func (d *drill) settle(ctx context.Context) (web.Job, error) {
	_, err := d.cluster.waitJob(ctx, "past a checkpoint", func(j *web.Job) bool {
		latest := j.Checkpoints.Latest
		return j.State == "RUNNING" && j.Attempt > d.attempt && latest != nil && latest.Attempt == j.Attempt
	})
	if err != nil {
		return web.Job{}, err
	}
	d.traffic.watch()
	if _, err := d.traffic.all(ctx); err != nil {
		return web.Job{}, err
	}
	time.Sleep(time.Duration(rand.Int64N(int64(d.b.opts.interval))))
	var job web.Job
	err = d.cluster.get("/v1/jobs/"+jobName, &job)
	d.attempt = job.Attempt
	return job, err
}

// victim picks a task manager that runs subtasks and lists the partitions that it reads.
func (d *drill) victim(job *web.Job) (*taskManager, []int32, error) {
	subtasks := job.Vertices[0].Subtasks
	id := subtasks[rand.IntN(len(subtasks))].TaskManager
	tm, err := d.cluster.taskManager(id)
	if err != nil {
		return nil, nil, err
	}
	var lost []int32
	for _, s := range subtasks {
		for _, lag := range s.Lag {
			if s.TaskManager == id {
				lost = append(lost, lag.Partition)
			}
		}
	}
	if len(lost) == 0 {
		return nil, nil, fmt.Errorf("the status of the job names no partition that %s reads", id)
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

func (d *drill) withSpare(ctx context.Context) (Recovery, error) {
	at, lost, err := d.kill(ctx)
	if err != nil {
		return Recovery{}, err
	}
	arrived, err := d.traffic.all(ctx)
	if err != nil {
		return Recovery{}, fmt.Errorf("%w\n%s", err, d.cluster.logs())
	}
	first, all := firstAndAll(arrived, lost)
	_, err = d.replace()
	return Recovery{FirstMs: ms(first.Sub(at)), AllMs: ms(all.Sub(at))}, err
}

func (d *drill) replace() (*taskManager, error) {
	id := fmt.Sprintf("tm-%d", d.next)
	d.next++
	return d.cluster.startTaskManager(id)
}

func (d *drill) withoutSpare(ctx context.Context) (Recovery, error) {
	at, lost, err := d.kill(ctx)
	if err != nil {
		return Recovery{}, err
	}
	if _, err := d.cluster.waitJob(ctx, "WAITING_FOR_SLOTS", func(j *web.Job) bool { return j.State == "WAITING_FOR_SLOTS" }); err != nil {
		return Recovery{}, err
	}
	waiting := time.Now()
	time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
	tm, err := d.replace()
	if err != nil {
		return Recovery{}, err
	}
	arrived, err := d.traffic.all(ctx)
	if err != nil {
		return Recovery{}, fmt.Errorf("%w\n%s", err, d.cluster.logs())
	}
	first, all := firstAndAll(arrived, lost)
	return Recovery{
		FirstMs: ms(first.Sub(at)), AllMs: ms(all.Sub(at)), WaitingMs: ms(waiting.Sub(at)),
		SlotToFirstMs: ms(first.Sub(tm.ready)), SlotToAllMs: ms(all.Sub(tm.ready)), ProcessToFirstMs: ms(first.Sub(tm.started)),
	}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
