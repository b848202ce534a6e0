package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// txnIDs are the transactional ids of a partition that take turns.
const txnIDs = 4

// rivalPrograms are the programs of the rivals.
var rivalPrograms = []string{"bench/rivals/franz", "bench/rivals/kafkago", "bench/rivals/txn", "bench/rivals/bare"}

// The rivals that are a program of bench/rivals each. It runs once, copies and ends.
var (
	franzLoop = &contestant{name: franzName, jobs: wholeJobs(), modes: noMode, run: func(ctx context.Context, b *bench, t *trial) (outcome, error) {
		return b.runLoop(ctx, t, "franz", slices.Concat(compressionArgs(t), t.job.loopArgs)...)
	}}
	kafkaGoLoop = &contestant{name: kafkaGoName, jobs: []string{casePass, caseFilter, caseSplit, caseJSON}, modes: noMode, run: func(ctx context.Context, b *bench, t *trial) (outcome, error) {
		return b.runLoop(ctx, t, "kafkago", slices.Concat(compressionArgs(t), t.job.loopArgs, b.profileArgs(t, "kafkago"))...)
	}}
	bareLoop = &contestant{name: bareName, jobs: []string{casePass}, modes: noMode, run: func(ctx context.Context, b *bench, t *trial) (outcome, error) {
		return b.runLoop(ctx, t, "bare", b.profileArgs(t, "bare")...)
	}}
	recodeLoop = &contestant{name: recodeName, jobs: []string{caseFilter}, modes: noMode, run: func(ctx context.Context, b *bench, t *trial) (outcome, error) {
		args := slices.Concat([]string{"-recode"}, compressionArgs(t), t.job.loopArgs, b.profileArgs(t, "bare"))
		return b.runLoop(ctx, t, "bare", args...)
	}}
	txnLoop = &contestant{name: txnName, jobs: []string{casePass}, modes: transactions, run: func(ctx context.Context, b *bench, t *trial) (outcome, error) {
		args := []string{"-interval", t.mode.interval.String(), "-ids", fmt.Sprint(txnIDs)}
		return b.runLoop(ctx, t, "txn", append(args, b.profileArgs(t, "txn")...)...)
	}}
)

func (b *bench) profileArgs(t *trial, program string) []string {
	if b.opts.profile == "" {
		return nil
	}
	return []string{"-profile", filepath.Join(b.opts.profile, profileName(t, program))}
}

func compressionArgs(t *trial) []string { return []string{"-compression", t.data.compression} }

// runLoop runs one of the rivals as a process. The time is that of the process.
func (b *bench) runLoop(ctx context.Context, t *trial, program string, args ...string) (out outcome, err error) {
	dir, err := os.MkdirTemp("", "sluice-bench-loop-")
	if err != nil {
		return out, fmt.Errorf("making a directory for the loop: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args = append([]string{"-brokers", b.broker.addr, "-source", t.data.topic, "-target", t.target}, args...)
	start := time.Now()
	p, err := process.Start(process.Spec{Name: program, Path: b.programs.path(program), Args: args, Dir: dir})
	if err != nil {
		return out, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return out, errors.Join(context.Cause(ctx), p.Kill9())
	}
	out.elapsed, out.cpu = time.Since(start), p.CPU()
	if p.ExitCode() != 0 {
		return out, fmt.Errorf("the loop ended with code %d: %s", p.ExitCode(), strings.TrimSpace(p.Tail(4<<10)))
	}
	var report struct {
		Mallocs       uint64 `json:"mallocs"`
		PeakRSSBytes  int64  `json:"peakRSSBytes"`
		Transactions  int64  `json:"transactions"`
		StalledMicros int64  `json:"stalledMicros"`
	}
	if err := json.Unmarshal([]byte(p.Stdout()), &report); err != nil {
		return out, fmt.Errorf("reading what the loop printed: %w", err)
	}
	out.mallocs, out.peak = report.Mallocs, map[string]int64{program: report.PeakRSSBytes}
	out.transactions, out.stalled = report.Transactions, time.Duration(report.StalledMicros)*time.Microsecond
	return out, nil
}
