package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sluice-stream/sluice/bench/coordination"
	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/machine"
)

// lookEvery is how often the job manager is asked for its task managers while it is watched: as a dashboard may do,
// often enough to see heartbeats that are late, and not in step with them.
const lookEvery = 130 * time.Millisecond

// watch measures the job manager while f runs, beside a broker with a process of its own, or 0.
func (m *jobManager) watch(ctx context.Context, broker int, f func(context.Context) error) (w coordination.Window, err error) {
	before, err := m.counters(broker)
	if err != nil {
		return w, err
	}
	looking, stop := context.WithCancel(ctx)
	defer stop()
	looked := make(chan error, 1)
	go func() { looked <- m.look(looking, &w) }()
	err = f(ctx)
	stop()
	if lookErr := <-looked; ctx.Err() == nil {
		err = errors.Join(err, lookErr)
	}
	after, err2 := m.counters(broker)
	if err := errors.Join(err, err2); err != nil {
		return w, err
	}
	w.Seconds = after.at.Sub(before.at).Seconds()
	w.CPUSeconds = (after.manager.CPU - before.manager.CPU).Seconds()
	w.FleetCPUSeconds = (after.fleet.CPU - before.fleet.CPU).Seconds()
	w.BrokerCPUSeconds = (after.broker.CPU - before.broker.CPU).Seconds()
	w.ForeignCPUSeconds = max((after.machine-before.machine).Seconds()-w.CPUSeconds-w.FleetCPUSeconds-w.BrokerCPUSeconds, 0)
	w.RSSBytes = after.manager.RSSBytes
	return w, nil
}

// look fills in what only repeated looks tell, until ctx ends.
func (m *jobManager) look(ctx context.Context, w *coordination.Window) error {
	var took []float64
	defer func() { w.AnswerMs = figures.NewSample(took) }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		c, err := m.client.cluster(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		took = append(took, figures.Ms(c.took))
		w.HeartbeatAgeMaxMs = max(w.HeartbeatAgeMaxMs, figures.Ms(c.oldest))
	}
}

// counters are what only rises.
type counters struct {
	at                     time.Time
	manager, fleet, broker machine.Usage
	machine                time.Duration
}

func (m *jobManager) counters(broker int) (c counters, err error) {
	c.at = time.Now()
	if c.manager, err = machine.UsageOf(m.process.Pid()); err != nil {
		return c, err
	}
	if c.fleet, err = machine.UsageOf(os.Getpid()); err != nil {
		return c, err
	}
	if broker != 0 {
		if c.broker, err = machine.UsageOf(broker); err != nil {
			return c, err
		}
	}
	c.machine, err = machine.Busy()
	return c, err
}
