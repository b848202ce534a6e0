package main

import (
	"context"
	"sync"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// load is a generator that runs.
type load struct {
	*workload.Generator
	cancel context.CancelFunc
	done   sync.WaitGroup
	err    error
}

// startLoad lets a generator write until stop.
func startLoad(g *workload.Generator) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{Generator: g, cancel: cancel}
	l.done.Go(func() { l.err = g.Run(ctx) })
	return l
}

// stop ends the load and says whether all of it got out. It may be called again.
func (l *load) stop() error {
	l.cancel()
	l.done.Wait()
	return l.err
}
