package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/bench/rivals/flink"
	"github.com/sluice-stream/sluice/test/machine"
)

const (
	// flinkRecoveryTimeout bounds one kill: with Flink's own heartbeats it takes some 20 s.
	flinkRecoveryTimeout = 3 * time.Minute
	// flinkSettle is how long a job that does not count passes records on before the first kill.
	flinkSettle = 10 * time.Second
)

// FlinkRecovery holds the kills of Flink's task managers, with its own heartbeats (10 s, found dead after 50 s or when
// two in a row cannot be sent) and restart policy (after 1 s, growing), and with tuned ones (1 s and 3 s, at once). The
// job, the traffic and the times are those of Recovery; a slot is there when the job manager knows its task manager.
type FlinkRecovery struct {
	Default     []Recovery `json:"default"`     // spare slots
	Tuned       []Recovery `json:"tuned"`       // spare slots
	MissingSlot []Recovery `json:"missingSlot"` // tuned; a replacement is started when the job has been interrupted
	// StartMs is from before the first process of each cluster until its slots were free.
	StartMs []float64 `json:"startMs"`
}

// flinkRecovery kills task managers of Flink; nil when it does not take part or cannot run here, which is said.
func (b *bench) flinkRecovery(ctx context.Context) (*FlinkRecovery, error) {
	if !slices.Contains(b.opts.contestants, flinkName) {
		return nil, nil
	}
	if missing := flink.Missing(); missing != "" {
		b.say("LEFT OUT: %s, because this machine lacks %s", flinkName, missing)
		return nil, nil
	}
	distribution, err := flink.Fetch(ctx)
	if err != nil {
		return nil, err
	}
	var report FlinkRecovery
	for _, part := range []struct {
		name     string
		victim   victim
		settings map[string]string
		out      *[]Recovery
	}{
		{"default", spareSlots, nil, &report.Default},
		{"tuned", spareSlots, flink.TunedRecovery(), &report.Tuned},
		{"missing-slot", missingSlot, flink.TunedRecovery(), &report.MissingSlot},
	} {
		workers := partitions / slotsPerTM
		if part.victim == spareSlots {
			workers++
		}
		options := flink.Options{Distribution: distribution, TaskManagers: workers, SlotsPerTaskManager: slotsPerTM, Settings: part.settings}
		kills, start, err := b.flinkKills(ctx, part.name, part.victim, options)
		*part.out = kills
		if err != nil {
			return &report, fmt.Errorf("flink, %s: %w", part.name, err)
		}
		report.StartMs = append(report.StartMs, figures.Ms(start))
	}
	return &report, nil
}

// flinkKills repeats one kind of drill on one cluster, whose code the first job compiles; it is not killed.
func (b *bench) flinkKills(ctx context.Context, name string, v victim, options flink.Options) (out []Recovery, start time.Duration, err error) {
	b.say("starting Flink, %s", name)
	cluster, err := flink.Start(ctx, options)
	if err != nil {
		return nil, start, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	b.say("Flink started in %s", cluster.StartedIn().Round(time.Millisecond))
	for i := range b.opts.flinkKills + 1 {
		d := &flinkDrill{b: b, cluster: cluster, victim: v, spared: i == 0}
		stepCtx, cancel := context.WithTimeoutCause(ctx, flinkRecoveryTimeout, fmt.Errorf("kill %d took longer than %s", i, flinkRecoveryTimeout))
		r, err := d.once(stepCtx, fmt.Sprintf("recovery-flink-%s-%d", name, i))
		if err == nil && !d.spared {
			b.say("kill %2d, flink %-12s: first new committed output %.0f ms after the kill, all partitions %.0f ms%s", i, name, r.FirstMs, r.AllMs, r.since())
			out = append(out, r)
			err = d.refill(stepCtx, options)
		}
		cancel()
		if err != nil {
			return out, start, fmt.Errorf("kill %d: %w", i, err)
		}
	}
	return out, cluster.StartedIn(), nil
}

// flinkDrill is one job of Flink, of which a task manager is killed.
type flinkDrill struct {
	b       *bench
	cluster *flink.Cluster
	traffic *traffic
	victim  victim
	spared  bool // nothing is killed
	job     string
}

func (d *flinkDrill) once(ctx context.Context, topics string) (r Recovery, err error) {
	if d.traffic, err = startTraffic(ctx, d.b.broker, topics, recoveryRate, trafficTick); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.traffic.close()) }()
	d.job, err = d.cluster.Submit(ctx, flink.Job{
		Kind: flink.Pass, Brokers: d.b.broker.addr, Source: d.traffic.source, Target: d.traffic.target, Latest: true, Parallelism: partitions,
		Interval: d.b.opts.interval, ExactlyOnce: d.b.opts.guarantee == exactlyOnce,
	})
	if err != nil {
		return r, err
	}
	readers, err := d.settle(ctx)
	if err == nil && !d.spared {
		r, err = d.kill(ctx, readers)
	}
	return r, errors.Join(err, d.cluster.Cancel(ctx, d.job))
}

// settle waits until the job runs, has drawn a checkpoint and passes records on in every partition, then for a moment,
// so that kills fall anywhere between two checkpoints.
func (d *flinkDrill) settle(ctx context.Context) (map[string][]int32, error) {
	if err := d.cluster.WaitRunning(ctx, d.job); err != nil {
		return nil, err
	}
	d.traffic.watch()
	if _, err := d.traffic.all(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, d.cluster.Logs())
	}
	readers, err := d.cluster.Readers(ctx, d.job, partitions)
	pause := time.Duration(rand.Int64N(int64(d.b.opts.interval)))
	if d.spared {
		pause = flinkSettle
	}
	time.Sleep(pause)
	return readers, err
}

// kill kills one that reads and watches from the moment when the process is gone, so that nothing it wrote counts.
func (d *flinkDrill) kill(ctx context.Context, readers map[string][]int32) (r Recovery, err error) {
	ids := slices.Sorted(maps.Keys(readers))
	id := ids[rand.IntN(len(ids))]
	all := d.cluster.TaskManagers()
	i := slices.IndexFunc(all, func(tm *flink.TaskManager) bool { return tm.ID == id })
	if i < 0 {
		return r, fmt.Errorf("the job runs on task manager %q, which is not one of the cluster's", id)
	}
	at := time.Now()
	if err := d.cluster.Kill9(all[i]); err != nil {
		return r, err
	}
	d.traffic.watch()
	var replacement *flink.TaskManager
	var registered time.Time
	if d.victim == missingSlot {
		if replacement, registered, err = d.replace(ctx, at, &r); err != nil {
			return r, err
		}
	}
	arrived, err := d.traffic.all(ctx)
	if err != nil {
		return r, fmt.Errorf("%w\n%s", err, d.cluster.Logs())
	}
	first, last := firstAndAll(arrived, readers[id])
	r.FirstMs, r.AllMs, r.Load1 = figures.Ms(first.Sub(at)), figures.Ms(last.Sub(at)), machine.LoadAverage()
	if replacement != nil {
		r.SlotToFirstMs, r.SlotToAllMs = figures.Ms(first.Sub(registered)), figures.Ms(last.Sub(registered))
		r.ProcessToFirstMs = figures.Ms(first.Sub(replacement.Started))
	}
	return r, nil
}

// replace waits until the job is interrupted, for a moment, and starts a task manager.
func (d *flinkDrill) replace(ctx context.Context, killed time.Time, r *Recovery) (tm *flink.TaskManager, registered time.Time, err error) {
	if err := d.cluster.WaitInterrupted(ctx, d.job); err != nil {
		return nil, registered, err
	}
	r.WaitingMs = figures.Ms(time.Since(killed))
	time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
	if tm, err = d.cluster.StartTaskManager(); err != nil {
		return nil, registered, err
	}
	err = d.cluster.WaitRegistered(ctx, tm)
	return tm, time.Now(), err
}

// refill starts a task manager in the place of one that was killed and not replaced.
func (d *flinkDrill) refill(ctx context.Context, options flink.Options) error {
	if len(d.cluster.TaskManagers()) < options.TaskManagers {
		if _, err := d.cluster.StartTaskManager(); err != nil {
			return err
		}
	}
	return d.cluster.WaitFreeSlots(ctx, options.TaskManagers*options.SlotsPerTaskManager)
}

// printStart says how long starts took.
func (f *FlinkRecovery) printStart(w io.Writer) {
	if f != nil && len(f.StartMs) > 0 {
		fmt.Fprintf(w, "\nFlink, job manager and two or three task managers: start to slots free: %s\n", milliseconds(figures.NewSample(f.StartMs)))
	}
}

// rows are those of the table of kills.
func (f *FlinkRecovery) rows(row func(name string, kills []Recovery, figure func(*Recovery) float64)) {
	if f == nil {
		return
	}
	first := func(r *Recovery) float64 { return r.FirstMs }
	row("Flink, its own heartbeats, spare slots: kill to first new committed output of the lost partitions", f.Default, first)
	row("Flink, tuned heartbeats, spare slots: the same", f.Tuned, first)
	row("Flink, tuned heartbeats, no spare slots: kill to a subtask seen not running", f.MissingSlot, func(r *Recovery) float64 { return r.WaitingMs })
	row("Flink, tuned heartbeats, no spare slots: replacement registered to first new committed output", f.MissingSlot, func(r *Recovery) float64 { return r.SlotToFirstMs })
	row("Flink, tuned heartbeats, no spare slots: replacement's process to first new committed output", f.MissingSlot, func(r *Recovery) float64 { return r.ProcessToFirstMs })
}
