package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/integration/process"
	"github.com/sluice-stream/sluice/test/machine"
)

const (
	// payloadLines are written to a file, of which Kafka's tool takes one at random for each record, so that they
	// compress nearly as the data does.
	payloadLines = 10_000
	// perfBatchBytes and perfBufferBytes are for speed: the tool's defaults are 16 KiB and 32 MiB.
	perfBatchBytes  = 256 << 10
	perfBufferBytes = 64 << 20
	perfLinger      = 10 * time.Millisecond
	perfTimeout     = 30 * time.Second // without a record
	// usageEvery is how often the memory of a process that ends by itself is looked at.
	usageEvery = 50 * time.Millisecond
)

// perfTools are kafka-producer-perf-test and kafka-consumer-perf-test, each a JVM of its own. Time, CPU and
// memory are of the whole process, with the start of the JVM.
var perfTools = &contestant{name: perfName, jobs: []string{caseProduce, caseConsume}, modes: noMode, run: runPerfTool}

func runPerfTool(ctx context.Context, b *bench, t *trial) (out outcome, err error) {
	classPath, err := kafkaenv.ClassPath(ctx, kafkaenv.Kafka43)
	if err != nil {
		return out, err
	}
	dir, err := os.MkdirTemp("", "sluice-bench-perf-")
	if err != nil {
		return out, fmt.Errorf("making a directory for the tool: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args := consumeArgs(b, t)
	if t.job.name == caseProduce {
		payload := filepath.Join(dir, "payload")
		if err := writePayload(payload, t.data.datasetSpec); err != nil {
			return out, err
		}
		args = produceArgs(b, t, payload)
	}
	start := time.Now()
	p, err := process.Start(process.Spec{Name: t.job.name, Path: "java", Args: append([]string{"-cp", classPath}, args...), Dir: dir})
	if err != nil {
		return out, err
	}
	peak, err := watchMemory(ctx, p)
	if err != nil {
		return out, err
	}
	out.elapsed, out.cpu, out.peak = time.Since(start), p.CPU(), map[string]int64{t.job.name: peak}
	if p.ExitCode() != 0 {
		return out, fmt.Errorf("the tool ended with code %d: %s", p.ExitCode(), p.Tail(4<<10))
	}
	return out, nil
}

func produceArgs(b *bench, t *trial, payload string) []string {
	return []string{
		"org.apache.kafka.tools.ProducerPerformance", "--topic", t.target, "--num-records", fmt.Sprint(t.data.records), "--payload-file", payload, "--throughput", "-1",
		"--producer-props", "bootstrap.servers=" + b.broker.addr, "acks=all", fmt.Sprintf("linger.ms=%d", perfLinger.Milliseconds()),
		fmt.Sprintf("batch.size=%d", perfBatchBytes), fmt.Sprintf("buffer.memory=%d", perfBufferBytes), "compression.type=" + t.data.compression,
	}
}

func consumeArgs(b *bench, t *trial) []string {
	return []string{
		"org.apache.kafka.tools.ConsumerPerformance", "--bootstrap-server", b.broker.addr, "--topic", t.data.topic,
		"--messages", fmt.Sprint(t.data.records), "--timeout", fmt.Sprint(perfTimeout.Milliseconds()),
	}
}

// writePayload writes values as the data has them, a line each.
func writePayload(file string, spec datasetSpec) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("writing values for the tool: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w, gen, value := bufio.NewWriter(out), newGenerator(), make([]byte, spec.valueBytes+1)
	value[spec.valueBytes] = '\n'
	for i := range payloadLines {
		gen.fill(spec.kind, value[:spec.valueBytes], i)
		if _, err := w.Write(value); err != nil {
			return fmt.Errorf("writing values for the tool: %w", err)
		}
	}
	return w.Flush()
}

// watchMemory waits for the end of a process and gives the largest resident set that was seen.
func watchMemory(ctx context.Context, p *process.Process) (peak int64, err error) {
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.Done():
			return peak, nil
		case <-ctx.Done():
			return peak, errors.Join(context.Cause(ctx), p.Kill9())
		case <-tick.C:
			if u, err := machine.UsageOf(p.Pid()); err == nil { // it may have ended meanwhile
				peak = max(peak, u.PeakRSSBytes)
			}
		}
	}
}
