package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/taskmanager"
)

// fleet holds the simulated task managers: the real ones, in this process, with connectors of our own. They speak
// to the job manager over TCP as any other.
type fleet struct {
	group  *errgroup.Group
	stop   context.CancelFunc
	log    *os.File // what they warn of
	kafkas []*kafka.Connectors
}

// fleetConfig says what to start.
type fleetConfig struct {
	jobManager string
	dir        string
	n, slots   int
	times      *timeline
	pace       time.Duration // of the sources
}

func startFleet(cfg fleetConfig) (*fleet, error) {
	log, err := os.Create(filepath.Join(cfg.dir, "taskmanagers.log"))
	if err != nil {
		return nil, fmt.Errorf("making the log of the task managers: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background()) // ended by close, or by the failure of one
	f := &fleet{stop: stop, log: log}
	f.group, ctx = errgroup.WithContext(ctx)
	for i := range cfg.n {
		logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})).With("taskmanager", i)
		k := kafka.NewConnectors(logger, nil)
		f.kafkas = append(f.kafkas, k)
		tm := taskmanager.DefaultConfig()
		tm.JobManager, tm.ID, tm.Slots = cfg.jobManager, ident.WorkerID(fmt.Sprintf("tm-%03d", i)), cfg.slots
		tm.WorkDir, tm.Logger, tm.Output = filepath.Join(cfg.dir, "work"), logger, io.Discard
		made, err := taskmanager.New(tm, &connectors{kafka: k, times: cfg.times, pace: cfg.pace}, expression.Checker{})
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.group.Go(func() error {
			if err := made.Run(ctx, func(string) {}); err != nil {
				return fmt.Errorf("task manager %s: %w", tm.ID, err)
			}
			return nil
		})
	}
	return f, nil
}

// close ends all task managers and waits for them.
func (f *fleet) close() error {
	f.stop()
	errs := []error{f.group.Wait()}
	for _, k := range f.kafkas {
		errs = append(errs, k.Close())
	}
	return errors.Join(append(errs, f.log.Close())...)
}
