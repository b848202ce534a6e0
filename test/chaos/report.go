package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/sluice-stream/sluice/test/chaos/fault"
	"github.com/sluice-stream/sluice/test/chaos/oracle"
)

// sums adds up the runs of one fault.
type sums struct {
	fault                               string
	runs, red                           int
	judged                              int // whose data was read: a run may have come to nothing before that
	in, out, lost, dup, order, phantom  int64
	hung                                int
	completed, failed                   int
	stallMs                             int64
	detectMs, redeployMs, firstOutputMs []int64
}

func (s *sums) add(o Outcome) {
	s.runs++
	if o.RecordsIn > 0 {
		s.judged++
	}
	if !o.OK() {
		s.red++
	}
	s.in, s.out = s.in+o.RecordsIn, s.out+o.RecordsOut
	s.lost, s.dup, s.order, s.phantom = s.lost+o.Lost, s.dup+o.Duplicates, s.order+o.OutOfOrder+o.WrongCounts, s.phantom+o.Phantoms
	for _, reason := range o.Verdict {
		if strings.HasPrefix(reason, oracle.HungLSO) {
			s.hung++
		}
	}
	s.completed, s.failed = s.completed+o.CheckpointsCompleted, s.failed+o.CheckpointsFailed
	s.stallMs = max(s.stallMs, o.LSOStallMs)
	for _, measured := range []struct {
		to *[]int64
		ms *int64
	}{{&s.detectMs, o.DetectMs}, {&s.redeployMs, o.RedeployMs}, {&s.firstOutputMs, o.FirstOutputMs}} {
		if measured.ms != nil {
			*measured.to = append(*measured.to, *measured.ms)
		}
	}
}

// quantiles is p50 / p95 / max of what was measured.
func quantiles(ms []int64) string {
	if len(ms) == 0 {
		return "–"
	}
	slices.Sort(ms)
	at := func(q float64) int64 { return ms[min(len(ms)-1, int(q*float64(len(ms))))] }
	return fmt.Sprintf("%d / %d / %d", at(0.5), at(0.95), ms[len(ms)-1])
}

const explanation = `Written by test/chaos; ` + "`make chaos`" + ` is the whole suite, with three seeds and twenty mixed runs. Each run: fresh topics and processes on a Kafka of three brokers (replication 3, two in
sync), a proxy on every line, a load with mixed compressions and aborted transactions, one fault, recovery, and an oracle that reads
Kafka with another client than Sluice's. Times are p50 / p95 / max in milliseconds from the fault on: until the job manager
acts, until it deploys again, until the next committed record is read. *Stall* is the longest time in which a reader got nothing from
some partition. *Order* includes wrong running counts. Each record of the output must also have been written in a transaction that a completed
checkpoint names, the job manager's log of decisions must keep the rules of checkpoints and transactions, and the offsets that it publishes are
never ahead of its newest completed checkpoint and never go back. Faults are explained by ` + "`go run ./test/chaos --list`" + `.
`

// report is the Markdown of all runs, and of what was found of seeded bugs.
func report(outcomes []Outcome, faults []fault.Fault, seeded []Finding, set settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Reliability: the fault suite\n\n%s\n", explanation)
	low, high := seeds(outcomes)
	fmt.Fprintf(&b, "Kafka %s, %s, %s/%s with %d processors, guarantee %s, %d records per second, seeds %d to %d, workload %s, outage %s%s.\n\n",
		set.kafka, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), set.guarantee, set.rate, low, high, set.workload, set.outage, large(outcomes))
	if set.remark != "" {
		fmt.Fprintf(&b, "%s\n\n", set.remark)
	}
	total := sums{fault: "**all**"}
	byFault := map[string]*sums{}
	for _, o := range outcomes {
		if byFault[o.Fault] == nil {
			byFault[o.Fault] = &sums{fault: o.Fault}
		}
		byFault[o.Fault].add(o)
		total.add(o)
	}
	fmt.Fprintf(&b, "Commits under test: %s.\n\n", strings.Join(revisions(outcomes), ", "))
	fmt.Fprintf(&b, "%s\n\n%s", bound(outcomes, total), loads(outcomes))
	b.WriteString("| fault | runs | not right | in | out | lost | dup | order | phantom | hung LSO | checkpoints (failed) | detect | redeploy | first output | stall |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	ordered := slices.SortedFunc(maps.Values(byFault), func(x, y *sums) int {
		return cmp.Or(numbered(x.fault)-numbered(y.fault), strings.Compare(x.fault, y.fault))
	})
	for _, s := range append(ordered, &total) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d (%d) | %s | %s | %s | %d |\n", s.fault, s.runs, s.red, s.in, s.out, s.lost,
			s.dup, s.order, s.phantom, s.hung, s.completed, s.failed, quantiles(s.detectMs), quantiles(s.redeployMs), quantiles(s.firstOutputMs), s.stallMs)
	}
	writeRed(&b, outcomes)
	writeSeeded(&b, seeded)
	writeLeftOut(&b, faults)
	return b.String()
}

// large says in how many of the runs how many records had 512 KiB: they cost a broker more than everything else.
func large(outcomes []Outcome) string {
	runs := map[int]int{}
	for _, o := range outcomes {
		if o.LargeEvery > 0 {
			runs[o.LargeEvery]++
		}
	}
	var b strings.Builder
	for _, every := range slices.Sorted(maps.Keys(runs)) {
		fmt.Fprintf(&b, ", 512 KiB in every %d. record of %d runs", every, runs[every])
	}
	return b.String()
}

// loads says how busy the machine was: where more waits than there are processors, times are the machine's.
func loads(outcomes []Outcome) string {
	var known []int64
	for _, o := range outcomes {
		if o.Load1 > 0 {
			known = append(known, int64(math.Ceil(o.Load1)))
		}
	}
	if len(known) == 0 {
		return ""
	}
	return fmt.Sprintf("Load average of the machine at the end of %d of the runs, p50 / p95 / max: %s.\n\n", len(known), quantiles(known))
}

// seeds are the lowest and the highest one.
func seeds(outcomes []Outcome) (low, high int64) {
	for i, o := range outcomes {
		if i == 0 || o.Seed < low {
			low = o.Seed
		}
		high = max(high, o.Seed)
	}
	return low, high
}

// revisions lists the commits that the runs tested.
func revisions(outcomes []Outcome) []string {
	var out []string
	for _, o := range outcomes {
		if !slices.Contains(out, o.Revision) {
			out = append(out, o.Revision)
		}
	}
	return out
}

// numbered orders F2 before F12; what has no number comes last.
func numbered(name string) int {
	var n int
	if _, err := fmt.Sscanf(name, "F%d", &n); err != nil {
		return 1000
	}
	return n
}

// bound says how many outcomes are not right, and below what the rate of wrong data is by the rule of three: of n
// runs without a failure, the rate of failures is below 3/n with a confidence of 95 %.
func bound(outcomes []Outcome, total sums) string {
	var b strings.Builder
	switch red := redRuns(outcomes); {
	case total.red == 0:
		fmt.Fprintf(&b, "All of %d runs are right.", total.runs)
	case red == 0:
		fmt.Fprintf(&b, "%d of %d outcomes are not right; each of these runs was made again, and is right.", total.red, total.runs)
	default:
		fmt.Fprintf(&b, "%d of %d outcomes are not right; %d runs are not right to the last.", total.red, total.runs, red)
	}
	if total.judged > 0 && total.lost+total.dup+total.order+total.phantom+int64(total.hung) == 0 {
		fmt.Fprintf(&b, " No outcome has a record that is duplicate, out of order, a phantom, or lost without the job saying so, or a transaction that hangs: with a confidence of 95 %% less than %.2g %% of such runs would have (rule of three, of %d outcomes whose data was read).",
			300/float64(total.judged), total.judged)
	}
	return b.String()
}

func writeRed(b *strings.Builder, outcomes []Outcome) {
	header := "\n## Runs that are not right\n\n"
	for _, o := range outcomes {
		if !o.OK() {
			var reasons []string
			for _, reason := range o.Verdict {
				first, _, _ := strings.Cut(reason, "\n") // behind it are logs
				reasons = append(reasons, first)
			}
			fmt.Fprintf(b, "%s- %s, workload %s, seed %d, at %s: %s\n", header, drawnText(o), o.Workload, o.Seed, o.Revision, strings.Join(reasons, "; "))
			header = ""
		}
	}
}

// writeSeeded tells whether the suite would notice, by bugs that were built in on purpose.
func writeSeeded(b *strings.Builder, seeded []Finding) {
	if len(seeded) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Seeded bugs\n\nWould the suite notice? `make chaos-selftest` breaks one rule after the other on purpose, and runs faults, or schedules of the simulation, until something is red;"+
		" a fault that catches a bug is run once more without it, and must be right. At %s.\n\n| seeded bug | caught by | runs | as |\n|---|---|---|---|\n", seeded[0].Revision)
	for _, f := range seeded {
		fmt.Fprintf(b, "| %s | %s | %d | %s |\n", f.Bug, cmp.Or(f.CaughtBy, "**nothing**"), f.Runs, strings.ReplaceAll(f.As, "|", "\\|"))
	}
}

// drawnText is the fault of a run, and of which it consisted.
func drawnText(o Outcome) string {
	if len(o.Faults) < 2 {
		return o.Fault
	}
	return fmt.Sprintf("%s (%s)", o.Fault, strings.Join(o.Faults, ", "))
}

func writeLeftOut(b *strings.Builder, faults []fault.Fault) {
	header := "\n## Faults that are not run\n\n"
	for _, f := range faults {
		if f.NotRun != "" {
			fmt.Fprintf(b, "%s- %s, %s: %s\n", header, f.Name(), f.What, f.NotRun)
			header = ""
		}
	}
}
