package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// loadTimeout bounds the end of the load. The client of the generator waits for ever for the answer to what it
// sent in a transaction, so brokers that do not come back would hold the suite.
const loadTimeout = 2 * time.Minute

// load is a generator that runs.
type load struct {
	*workload.Generator
	cancel context.CancelFunc
	done   chan error // holds the outcome of Run when that has ended, and room for one that comes too late
}

// startLoad lets a generator write until stop.
func startLoad(g *workload.Generator) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{Generator: g, cancel: cancel, done: make(chan error, 2)}
	go func() { l.done <- g.Run(ctx) }()
	return l
}

// stop ends the load and says whether all of it got out. It may be called again.
func (l *load) stop() error {
	l.cancel()
	timer := time.NewTimer(loadTimeout)
	defer timer.Stop()
	select {
	case err := <-l.done:
		l.done <- err
		return err
	case <-timer.C:
		err := fmt.Errorf("%sthe generator did not end within %s: no broker answers", environment, loadTimeout)
		select {
		case l.done <- err: // what comes later is of no use
		default:
		}
		return err
	}
}
