// Command scale measures how the job manager copes with the size of a job: a real job manager as a process, and up
// to a hundred real task managers in this process, over loopback gRPC, whose sources make records up. Nothing of
// the data path is measured. It prints what deployments and checkpoints take and cost at each size, what a subtask
// costs (the slope), the goals, and JSON. It asserts no time: figures belong to the machine they were measured on.
//
//	go run ./bench/scale                                      # everything, some 6 minutes
//	go run ./bench/scale --steps 1000 --guarantees exactly-once   # a part of it
//	go run ./bench/scale --steps 10000 --profile DIR          # with CPU and heap profiles of the job manager
//	go run ./bench/scale --json scale.json
//
// The fields of the JSON are documented at Report and the types in it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluice-stream/sluice/bench/coordination"
	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/machine"
)

// maxTaskManagers bounds the simulated task managers; up to it there is one for ten subtasks.
const (
	maxTaskManagers       = 100
	subtasksPerSmallFleet = 10
)

// options are the flags.
type options struct {
	steps                   []int // subtasks
	guarantees              []string
	maxExactlyOnce          int // subtasks
	deployments             int
	checkpoints             int
	interval, smallInterval time.Duration
	smallSubtasks           int
	idle, timeout           time.Duration
	jobManager, profile     string
	kafka                   string
	json                    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	opts, err := parseOptions(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
	if err := run(ctx, opts, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func parseOptions(args []string) (*options, error) {
	guarantees := []string{string(graph.AtLeastOnce), string(graph.ExactlyOnce)}
	o := &options{}
	fs := pflag.NewFlagSet("scale", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.IntSliceVar(&o.steps, "steps", []int{10, 100, 1000, 10_000}, "subtasks of the jobs")
	fs.StringSliceVar(&o.guarantees, "guarantees", guarantees, "of their sinks")
	fs.IntVar(&o.maxExactlyOnce, "max-exactly-once", 1000, "steps of an exactly-once sink have at most so many subtasks")
	fs.StringVar(&o.kafka, "kafka", string(kafkaenv.Kafka43), "broker of the exactly-once steps: kafka-4.3.1, which needs a JDK and Maven, or kfake, in this process, which looks at all open transactions at each request and holds up some hundred sinks")
	fs.IntVar(&o.deployments, "deployments", 3, "deployments to time at each step, beside that of the job whose checkpoints are timed")
	fs.IntVar(&o.checkpoints, "checkpoints", 40, "checkpoints to time at each step")
	fs.DurationVar(&o.interval, "interval", time.Second, "checkpoint interval of large jobs")
	fs.DurationVar(&o.smallInterval, "small-interval", 200*time.Millisecond, "checkpoint interval of small jobs")
	fs.IntVar(&o.smallSubtasks, "small", 100, "up to how many subtasks a job is small")
	fs.DurationVar(&o.idle, "idle", 8*time.Second, "how long the idle job manager is watched at each step")
	fs.DurationVar(&o.timeout, "timeout", 150*time.Second, "how long a step may take; one that takes longer is told as failed")
	fs.StringVar(&o.jobManager, "program", "", "the jobmanager program; built when empty")
	fs.StringVar(&o.profile, "profile", "", "directory for CPU and heap profiles of the job manager; empty: none are taken")
	fs.StringVar(&o.json, "json", "", "file for the JSON; empty: stdout, after the tables")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	for _, g := range o.guarantees {
		if !slices.Contains(guarantees, g) {
			return nil, fmt.Errorf("--guarantees: %q is unknown, want some of %s", g, strings.Join(guarantees, ", "))
		}
	}
	if kinds := []string{string(kafkaenv.Kafka43), string(kafkaenv.Fake)}; !slices.Contains(kinds, o.kafka) {
		return nil, fmt.Errorf("--kafka %q: want one of %s", o.kafka, strings.Join(kinds, ", "))
	}
	return o, o.validate()
}

func (o *options) validate() error {
	var errs []error
	for _, n := range o.steps {
		if n < 1 || n > graph.MaxSubtasks {
			errs = append(errs, fmt.Errorf("--steps: %d is not within 1 and %d", n, graph.MaxSubtasks))
		}
	}
	for flag, value := range map[string]int64{
		"deployments": int64(o.deployments), "checkpoints": int64(o.checkpoints), "interval": int64(o.interval),
		"small-interval": int64(o.smallInterval), "idle": int64(o.idle), "timeout": int64(o.timeout),
	} {
		if value <= 0 {
			errs = append(errs, fmt.Errorf("--%s: must be above 0", flag))
		}
	}
	return errors.Join(errs...)
}

func (o *options) settings() map[string]any {
	return map[string]any{
		"steps": o.steps, "guarantees": o.guarantees, "maxExactlyOnce": o.maxExactlyOnce, "deployments": o.deployments, "checkpoints": o.checkpoints, "intervalMs": figures.Ms(o.interval),
		"smallIntervalMs": figures.Ms(o.smallInterval), "smallSubtasks": o.smallSubtasks, "idleSeconds": o.idle.Seconds(), "timeoutSeconds": o.timeout.Seconds(),
		"broker": o.kafka + " for exactly-once, kfake in the process of the simulated task managers otherwise", "profiled": strconv.FormatBool(o.profile != ""),
	}
}

// run measures and prints. What has been measured before an error is printed too.
func run(ctx context.Context, opts *options, stdout, progress io.Writer) (err error) {
	program := opts.jobManager
	if program == "" {
		dir, err := os.MkdirTemp("", "sluice-scale-bin-")
		if err != nil {
			return fmt.Errorf("making a directory for the job manager: %w", err)
		}
		defer os.RemoveAll(dir)
		if program, err = buildJobManager(ctx, dir); err != nil {
			return err
		}
	}
	report := coordination.Report{Benchmark: coordination.Benchmark, Machine: machine.Describe(ctx), Settings: opts.settings()}
	report.Steps, err = measureAll(ctx, opts, program, progress)
	report.Goals = coordination.GoalsOf(report.Steps)
	fmt.Fprintf(stdout, "\n%s\n", &report)
	report.Print(stdout)
	coordination.PrintGoals(stdout, report.Goals)
	return errors.Join(err, figures.WriteJSON(report, opts.json, stdout))
}

func measureAll(ctx context.Context, opts *options, program string, progress io.Writer) (out []coordination.Step, err error) {
	say := func(format string, args ...any) { fmt.Fprintf(progress, format+"\n", args...) }
	for _, guarantee := range opts.guarantees {
		for _, n := range opts.steps {
			if guarantee == string(graph.ExactlyOnce) && n > opts.maxExactlyOnce {
				say("%d subtasks, %s: left out, --max-exactly-once is %d", n, guarantee, opts.maxExactlyOnce)
				continue
			}
			s := &step{opts: opts, program: program, say: say, out: sized(n, guarantee)}
			done, err := s.measure(ctx)
			out = append(out, done)
			if err != nil {
				return out, fmt.Errorf("%d subtasks, %s: %w", n, guarantee, err)
			}
		}
	}
	return out, nil
}

// sized spreads the subtasks of a job over task managers.
func sized(subtasks int, guarantee string) coordination.Step {
	n := min(max(subtasks/subtasksPerSmallFleet, 1), maxTaskManagers)
	return coordination.Step{Subtasks: subtasks, Guarantee: guarantee, TaskManagers: n, SlotsPerTaskManager: (subtasks + n - 1) / n}
}
