package main

import (
	"context"
	"errors"
	"os"
	"time"
)

// lookEvery is how often the job manager is asked for its task managers while it is watched: as a dashboard may do,
// often enough to see heartbeats that are late, and not in step with them.
const lookEvery = 130 * time.Millisecond

// watch measures the job manager while f runs.
func (m *jobManager) watch(ctx context.Context, f func(context.Context) error) (w Window, err error) {
	before, err := m.counters()
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
	after, err2 := m.counters()
	if err := errors.Join(err, err2); err != nil {
		return w, err
	}
	w.Seconds = after.at.Sub(before.at).Seconds()
	w.CPUSeconds = (after.manager.cpu - before.manager.cpu).Seconds()
	w.FleetCPUSeconds = (after.fleet.cpu - before.fleet.cpu).Seconds()
	w.ForeignCPUSeconds = max((after.machine-before.machine).Seconds()-w.CPUSeconds-w.FleetCPUSeconds, 0)
	w.RSSBytes = after.manager.rssBytes
	return w, nil
}

// look fills in what only repeated looks tell, until ctx ends.
func (m *jobManager) look(ctx context.Context, w *Window) error {
	var took []float64
	defer func() { w.AnswerMs = newSample(took) }()
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
		took = append(took, ms(c.took))
		w.HeartbeatAgeMaxMs = max(w.HeartbeatAgeMaxMs, ms(c.oldest))
	}
}

// counters are what only rises.
type counters struct {
	at             time.Time
	manager, fleet usage
	machine        time.Duration
}

func (m *jobManager) counters() (c counters, err error) {
	c.at = time.Now()
	if c.manager, err = usageOf(m.process.Pid()); err != nil {
		return c, err
	}
	if c.fleet, err = usageOf(os.Getpid()); err != nil {
		return c, err
	}
	c.machine, err = machineBusy()
	return c, err
}
