package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/machine"
	"github.com/sluice-stream/sluice/web"
)

const (
	// recoveryRate is the traffic while task managers are killed: enough that a record is always under way.
	recoveryRate    = 2000
	recoveryTimeout = 60 * time.Second
)

// victim is what is killed, and what is there to take its place.
type victim string

// The victims.
const (
	spareSlots  victim = "spare slots"  // a task manager; other slots are free
	missingSlot victim = "missing slot" // a task manager; a replacement is started a moment later
	jobManager  victim = "job manager"  // started again at once on the same addresses and data
)

// Recovery is one kill -9. Milliseconds. A record is new if it was due after the process was gone; the
// times end when a read_committed reader of the output has it.
type Recovery struct {
	// FirstMs is the first new record since the signal: in a partition that the killed task manager had, or
	// in any when it was the job manager.
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
	// ReadyMs is from the signal until the job manager served again.
	ReadyMs float64 `json:"readyMs,omitempty"`
	Load1   float64 `json:"loadAverage1"` // at the end
}

// RecoveryReport holds the recoveries by victim.
type RecoveryReport struct {
	SpareSlots  []Recovery `json:"spareSlots"`
	MissingSlot []Recovery `json:"missingSlot"`
	JobManager  []Recovery `json:"jobManager"`
	// Flink is absent when it did not take part.
	Flink *FlinkRecovery `json:"flink,omitempty"`
}

// recovery kills task managers and job managers under a running pass-through job.
func (b *bench) recovery(ctx context.Context) (report RecoveryReport, err error) {
	for _, part := range []struct {
		victim victim
		out    *[]Recovery
	}{{spareSlots, &report.SpareSlots}, {missingSlot, &report.MissingSlot}, {jobManager, &report.JobManager}} {
		if *part.out, err = b.kills(ctx, part.victim); err != nil {
			return report, err
		}
	}
	report.Flink, err = b.flinkRecovery(ctx)
	return report, err
}

// drill is one cluster with its job, of which a process is killed.
type drill struct {
	b       *bench
	cluster *cluster
	traffic *traffic
	victim  victim
}

// kills repeats one kind of drill. Each has a cluster, a job and topics of its own: the restart policy makes
// a job that fails again and again wait longer each time, and a cluster that is killed as a whole leaves its
// transactions open; neither is what is measured here.
func (b *bench) kills(ctx context.Context, v victim) (out []Recovery, err error) {
	for i := range b.opts.kills {
		stepCtx, cancel := context.WithTimeoutCause(ctx, recoveryTimeout, fmt.Errorf("kill %d took longer than %s", i+1, recoveryTimeout))
		r, err := b.killOnce(stepCtx, fmt.Sprintf("recovery-%s-%d", strings.ReplaceAll(string(v), " ", "-"), i+1), v)
		cancel()
		if err != nil {
			return out, fmt.Errorf("kill %d, %s: %w", i+1, v, err)
		}
		b.say("kill %2d, %-12s: first new committed output %.0f ms after the kill, all partitions %.0f ms%s", i+1, v, r.FirstMs, r.AllMs, r.since())
		out = append(out, r)
	}
	return out, nil
}

func (b *bench) killOnce(ctx context.Context, topics string, v victim) (r Recovery, err error) {
	d := &drill{b: b, victim: v}
	workers := partitions / slotsPerTM
	if v == spareSlots {
		workers++
	}
	if d.cluster, err = startCluster(b.programs, workers); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.cluster.close()) }()
	if d.traffic, err = startTraffic(ctx, b.broker, topics, recoveryRate, trafficTick); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.traffic.close()) }()
	spec := jobSpec{broker: b.broker.addr, source: d.traffic.source, target: d.traffic.target, startup: "latest", interval: b.opts.interval, guarantee: b.opts.guarantee}
	if _, err := d.cluster.submit(ctx, spec.yaml()); err != nil {
		return r, err
	}
	return d.run(ctx)
}

func (r *Recovery) since() string {
	switch {
	case r.SlotToFirstMs != 0:
		return fmt.Sprintf("; %.0f ms after the missing slots were there", r.SlotToFirstMs)
	case r.ReadyMs != 0:
		return fmt.Sprintf("; the job manager served again after %.0f ms", r.ReadyMs)
	}
	return ""
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

// pick chooses a task manager that runs subtasks and lists the partitions that it reads.
func (d *drill) pick(job *web.Job) (*taskManager, []int32, error) {
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
	if d.victim == jobManager {
		at = time.Now()
		err := d.cluster.jm.Kill9()
		d.traffic.watch()
		return at, readBy(&job, ""), err
	}
	tm, lost, err := d.pick(&job)
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

// run kills, sees to what is missing, and waits for new output.
func (d *drill) run(ctx context.Context) (r Recovery, err error) {
	at, lost, err := d.kill(ctx)
	if err != nil {
		return r, err
	}
	var replacement *taskManager
	switch d.victim {
	case missingSlot:
		if replacement, err = d.replace(ctx, at, &r); err != nil {
			return r, err
		}
	case jobManager:
		if err := d.cluster.startJobManager(d.cluster.grpc, d.cluster.http); err != nil {
			return r, err
		}
		r.ReadyMs = figures.Ms(time.Since(at))
	}
	arrived, err := d.traffic.all(ctx)
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, d.cluster.logs())
	}
	first, all := firstAndAll(arrived, lost)
	r.Load1 = machine.LoadAverage()
	r.FirstMs, r.AllMs = figures.Ms(first.Sub(at)), figures.Ms(all.Sub(at))
	if replacement != nil {
		r.SlotToFirstMs, r.SlotToAllMs = figures.Ms(first.Sub(replacement.ready)), figures.Ms(all.Sub(replacement.ready))
		r.ProcessToFirstMs = figures.Ms(first.Sub(replacement.started))
	}
	return r, nil
}

// replace waits until the job waits, for a moment, and starts a task manager.
func (d *drill) replace(ctx context.Context, killed time.Time, r *Recovery) (*taskManager, error) {
	if _, err := d.cluster.waitJob(ctx, "WAITING_FOR_SLOTS", func(j *web.Job) bool { return j.State == "WAITING_FOR_SLOTS" }); err != nil {
		return nil, err
	}
	r.WaitingMs = figures.Ms(time.Since(killed))
	time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
	return d.cluster.startTaskManager("replacement")
}
