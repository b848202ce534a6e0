package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"
)

// The contestants of the exactly-once part.
const (
	offName     = "checkpoints off"
	loopIDs     = 4
	shortPeriod = 100 * time.Millisecond
	longPeriod  = time.Second
)

func exactlyName(interval time.Duration) string { return fmt.Sprintf("%s %s", exactlyOnce, interval) }
func bareName(interval time.Duration) string    { return fmt.Sprintf("bare loop %s", interval) }

// exactlyOnceContestants are a pass-through job without checkpoints and with transactions of two lengths,
// and the bare transactional loop with the same lengths.
func (b *bench) exactlyOnceContestants() []*contestant {
	out := []*contestant{{name: offName, guarantee: atLeastOnce, run: b.runSluice}}
	for _, interval := range []time.Duration{longPeriod, shortPeriod} {
		out = append(out,
			&contestant{name: exactlyName(interval), interval: interval, guarantee: b.opts.guarantee, run: b.runSluice},
			&contestant{name: bareName(interval), interval: interval, guarantee: "transactions", run: b.runBare})
	}
	return out
}

func (b *bench) runBare(ctx context.Context, how *contestant, c *testCase, data *dataset, target string) (outcome, error) {
	args := []string{"-brokers", b.broker.addr, "-source", data.topic, "-target", target, "-interval", how.interval.String(), "-ids", fmt.Sprint(loopIDs)}
	if b.opts.profile != "" {
		args = append(args, "-profile", filepath.Join(b.opts.profile, profileName(c, how, data, "txn")))
	}
	return b.runLoop(ctx, "txn", args)
}

// exactlyOnce runs all of them in turn, once unmeasured: the first transactions that a broker sees cost it
// more. Each round begins with another one.
func (b *bench) exactlyOnce(ctx context.Context) ([]Run, error) {
	var runs []Run
	all := b.exactlyOnceContestants()
	for _, size := range b.opts.sizes {
		data, err := b.fill(ctx, size, all...)
		if err != nil {
			return runs, err
		}
		for i := range b.opts.repeats {
			for k := range all {
				run, err := b.one(ctx, caseByName(casePass), data, all[(i+k)%len(all)])
				if err != nil {
					return runs, err
				}
				run.Round = i + 1
				runs = append(runs, run)
			}
		}
		if err := b.broker.deleteTopic(ctx, data.topic); err != nil {
			return runs, err
		}
	}
	return runs, nil
}

// ThroughputRatio compares the records per second of two contestants in each round, in which they ran soon
// after each other.
type ThroughputRatio struct {
	ValueBytes int    `json:"valueBytes"`
	Name       string `json:"name"`
	Of         string `json:"of"`
	To         string `json:"to"`
	// Steady compares the steady parts of the runs, Whole the runs with their start and end, which for a job
	// are submission, deployment, the last checkpoint and fencing: they do not grow with its length.
	Steady Sample `json:"steady"`
	Whole  Sample `json:"whole"`
	// Goal is what the median of Steady is to reach; 0: none.
	Goal float64 `json:"goal,omitempty"`
}

// The comparisons, with what is to be reached.
var comparisons = []struct {
	of, to string
	goal   float64
}{
	{exactlyName(shortPeriod), bareName(shortPeriod), 0.97},
	{exactlyName(longPeriod), bareName(longPeriod), 0},
	{exactlyName(shortPeriod), offName, 0.90},
	{exactlyName(longPeriod), offName, 0.97},
	{bareName(shortPeriod), bareName(longPeriod), 0},
}

// exactlyOnceRatios compares valid runs of the same round.
func exactlyOnceRatios(runs []Run) []ThroughputRatio {
	var out []ThroughputRatio
	for _, size := range sizesOf(runs) {
		for _, c := range comparisons {
			var steady, whole []float64
			to := runsOf(runs, casePass, size, c.to)
			for _, of := range runsOf(runs, casePass, size, c.of) {
				if i := slices.IndexFunc(to, func(r Run) bool { return r.Round == of.Round }); i >= 0 {
					steady, whole = append(steady, of.SteadyPerSec/to[i].SteadyPerSec), append(whole, of.RecordsPerSec/to[i].RecordsPerSec)
				}
			}
			if len(whole) > 0 {
				out = append(out, ThroughputRatio{ValueBytes: size, Name: c.of + " / " + c.to, Of: c.of, To: c.to, Steady: newSample(steady), Whole: newSample(whole), Goal: c.goal})
			}
		}
	}
	return out
}

func (r *Report) printExactlyOnce(w io.Writer) {
	if len(r.ExactlyOnce) == 0 {
		return
	}
	table := newTable(w, "PASS-THROUGH", "VALUE", "RECORDS/S, STEADY median (min–max)", "WHOLE RUN", "MiB/S", "CPU-S PER MILLION median (min–max)", "BROKER", "FOREIGN CPU-S", "TRANSACTIONS OF A PARTITION")
	for _, size := range sizesOf(r.ExactlyOnce) {
		for _, name := range namesOf(r.ExactlyOnce) {
			runs := runsOf(r.ExactlyOnce, casePass, size, name)
			if len(runs) == 0 {
				table.row(name, fmt.Sprintf("%d B", size), "no valid run")
				continue
			}
			speed, whole, cpu := sampleOf(runs, func(r *Run) float64 { return r.SteadyPerSec }), sampleOf(runs, recordsPerSec), sampleOf(runs, cpuPerMillion)
			table.row(name, fmt.Sprintf("%d B", size), thousands(speed), thousands(whole),
				fmt.Sprintf("%.0f", speed.Median*float64(size)/(1<<20)),
				thirdDigit(cpu),
				fmt.Sprintf("%.2f", sampleOf(runs, func(r *Run) float64 { return r.BrokerPerM }).Median),
				fmt.Sprintf("%.1f", sampleOf(runs, func(r *Run) float64 { return r.ForeignCPU }).Median),
				fmt.Sprintf("%.0f", sampleOf(runs, func(r *Run) float64 { return r.perPartition() }).Median))
		}
	}
	table.end()
	ratios := newTable(w, "RECORDS/S", "VALUE", "STEADY median (min–max)", "WHOLE RUN median (min–max)", "GOAL, STEADY")
	for _, ratio := range r.Ratios {
		goal := "-"
		if ratio.Goal > 0 {
			goal = fmt.Sprintf("≥ %.2f", ratio.Goal)
		}
		ratios.row(ratio.Name, fmt.Sprintf("%d B", ratio.ValueBytes), thirdDigit(ratio.Steady), thirdDigit(ratio.Whole), goal)
	}
	ratios.end()
}

// perPartition is how many transactions each partition got: one for each checkpoint of a job. Fewer than the
// interval allows are longer ones.
func (r *Run) perPartition() float64 {
	if r.Guarantee == atLeastOnce {
		return 0
	}
	return float64(r.Checkpoints) + float64(r.Transactions)/partitions
}

func thousands(s Sample) string {
	return fmt.Sprintf("%.0f k (%.0f–%.0f)", s.Median/1e3, s.Min/1e3, s.Max/1e3)
}

func thirdDigit(s Sample) string { return fmt.Sprintf("%.3f (%.3f–%.3f)", s.Median, s.Min, s.Max) }
