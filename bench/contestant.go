package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The contestants.
const (
	sluiceName  = "sluice"
	franzName   = "franz-go"
	kafkaGoName = "kafka-go"
	bareName    = "bare"        // batches with a new header, nothing decoded
	recodeName  = "bare-recode" // every record decoded and encoded again
	txnName     = "bare-txn"    // as bare, in transactions
	flinkName   = "flink"
	perfName    = "kafka-perf" // Kafka's own tools
)

// contestants is everyone who can take part, in the order of the tables. Who is not named by --contestants
// is left out.
func contestants() []*contestant {
	return []*contestant{sluice, franzLoop, kafkaGoLoop, bareLoop, recodeLoop, txnLoop, flinkRival, perfTools}
}

// contestant is one that does the jobs of the benchmark: it reads a topic from its start to what was its end
// when it began, and writes another.
type contestant struct {
	name string
	// jobs are the names of the jobs that it can do.
	jobs []string
	// modes picks those of the modes asked for in which it runs. One that knows none runs once, in the zero
	// mode.
	modes func(asked []mode) []mode
	// missing says what this machine lacks to run it, and how to get it; "" if nothing. nil: it needs nothing.
	// What lacks something is left out, which is said on the terminal and in the report.
	missing func() string
	// prepare makes ready for a trial what is kept running from one to the next, outside of what is measured. nil: nothing is.
	prepare func(ctx context.Context, b *bench, t *trial) error
	// run does one trial. Its outcome is about its own processes only, over the run: from before the start of
	// the processes, or the submission of the job, to the end.
	run func(ctx context.Context, b *bench, t *trial) (outcome, error)
	// close ends what it keeps running from one trial to the next; called when a data set is done with, and
	// when anything failed. nil: it keeps nothing.
	close func() error
}

// mode is how a contestant that draws checkpoints does a job. The zero value is that of the others.
type mode struct {
	guarantee string        // of the sink
	interval  time.Duration // of checkpoints or transactions; 0: off
}

// off is without checkpoints.
var off = mode{guarantee: atLeastOnce}

// String is how flags and figures name it: off, exactly-once/100ms; "" for the zero mode.
func (m mode) String() string {
	switch {
	case m == mode{}:
		return ""
	case m.interval == 0:
		return "off"
	}
	return m.guarantee + "/" + m.interval.String()
}

func parseMode(text string) (mode, error) {
	if text == off.String() {
		return off, nil
	}
	guarantee, every, _ := strings.Cut(text, "/")
	interval, err := time.ParseDuration(every)
	if err != nil || interval <= 0 || guarantee != exactlyOnce && guarantee != atLeastOnce {
		return mode{}, fmt.Errorf("--modes: %q is none: want off, %s/INTERVAL or %s/INTERVAL, such as %s/1s", text, atLeastOnce, exactlyOnce, exactlyOnce)
	}
	return mode{guarantee, interval}, nil
}

func parseModes(texts []string) ([]mode, error) {
	var out []mode
	var errs []error
	for _, text := range texts {
		m, err := parseMode(text)
		out, errs = append(out, m), append(errs, err)
	}
	return out, errors.Join(errs...)
}

func modeTexts(modes []mode) []string {
	var out []string
	for _, m := range modes {
		out = append(out, m.String())
	}
	return out
}

// everyMode, noMode and transactions are what contestants can do.
func everyMode(asked []mode) []mode { return asked }

func noMode([]mode) []mode { return []mode{{}} }

func transactions(asked []mode) []mode {
	return slices.DeleteFunc(slices.Clone(asked), func(m mode) bool { return m.guarantee != exactlyOnce })
}

// trial is one thing to do.
type trial struct {
	by   *contestant
	mode mode
	job  *job
	data *dataset // topic, records, compression
	// target is an empty topic, with as many partitions as that of the data. What is written to it is to be
	// compressed as the data is.
	target string
	// round counts from 1; 0 does not count.
	round int
}

// String names it in messages.
func (t *trial) String() string {
	return fmt.Sprintf("%s of %s, %s", strings.TrimSpace(t.by.name+" "+t.mode.String()), t.job.name, t.data.datasetSpec)
}

// outcome is what a contestant reports about itself.
type outcome struct {
	elapsed     time.Duration
	cpu         time.Duration      // user and system, of all its processes, over the run
	commands    time.Duration      // the same of the commands that only ask for it and wait
	peak        map[string]int64   // resident set in bytes, by process
	cpuOf       map[string]float64 // seconds, by process; nil: there is one
	mallocs     uint64             // 0: unknown
	checkpoints checkpointTimes
	// transactions and stalled, the sum of all waits for an id, are what a bare transactional loop counts.
	transactions int64
	stalled      time.Duration
}

func contestantNames() []string {
	var names []string
	for _, c := range contestants() {
		names = append(names, c.name)
	}
	return names
}
