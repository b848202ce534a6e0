// Command chaos runs the fault suite: real processes, a real Kafka of three brokers, a proxy on every line
// between them, one fault a run, and an oracle that knows what must come out. It prints one JSON object a
// run.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluice-stream/sluice/test/chaos/fault"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/machine"
)

// errRed says that runs were judged, and not all of them are right: exit code 1.
var errRed = errors.New("not every run is right")

// settings are the command line.
type settings struct {
	faults, workload, output, kafka, guarantee string
	report, remark                             string
	journal, shard, revision, seeded           string
	accept, bugs                               []string
	seeds, mixed, rate, largeEvery             int
	firstSeed                                  int64
	mixedDuration, outage                      time.Duration
	list, selfTest, keep                       bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (settings, error) {
	var s settings
	flags := pflag.NewFlagSet("chaos", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.StringVar(&s.faults, "faults", "all", "`F1,F2/NAME,…` to inject, or all, save those that show a known gap; none with an empty text")
	flags.IntVar(&s.seeds, "seeds", 1, "runs of each fault, each with its own seed")
	flags.Int64Var(&s.firstSeed, "first-seed", 1, "seed of the first run; the others follow")
	flags.StringVar(&s.workload, "workload", "rotate", "A, B, C, D, or rotate: by the seed, all but D, which only faults run that name it")
	flags.IntVar(&s.mixed, "mixed", 0, "runs with random faults one after the other, after the others")
	flags.DurationVar(&s.mixedDuration, "mixed-duration", 2*time.Minute, "how long faults are injected in a mixed run")
	flags.DurationVar(&s.outage, "outage", 20*time.Second, "how long all brokers are down in F9 and lines are silent in long partitions")
	flags.IntVar(&s.rate, "rate", 2000, "records per second")
	flags.IntVar(&s.largeEvery, "large-every", 50, "every so many records have 512 KiB; -1: none")
	flags.StringVar(&s.guarantee, "guarantee", "exactly-once", "of the sink")
	flags.StringVar(&s.kafka, "kafka", "4.3.1", "version of Kafka: 4.3.1 or 3.9.2")
	flags.StringVarP(&s.output, "output", "o", "table", "table or json")
	flags.StringVar(&s.report, "report", "", "`FILE` to write the report of all runs to, in Markdown")
	flags.StringVar(&s.remark, "remark", "", "`TEXT` for the head of the report: what its readers must know of the machine")
	flags.StringVar(&s.journal, "journal", "", "`FILE,…`: outcomes are appended to the first; runs of this revision that have one in any of them are not made again, and count in the report")
	flags.StringSliceVar(&s.accept, "accept", nil, "`REVISION,…`: outcomes in the journals that were right with these count, too; others are made again")
	flags.StringVar(&s.shard, "shard", "0/1", "`I/N`: make only every N-th run, from the I-th on")
	flags.BoolVar(&s.list, "list", false, "list the faults and end")
	flags.BoolVar(&s.selfTest, "selftest", false, "seed one bug after the other and show what catches it")
	flags.StringSliceVar(&s.bugs, "bugs", nil, "`BUG,…` that the self-test seeds in real processes, and none in the simulation; empty: all")
	flags.StringVar(&s.seeded, "seeded", "", "`FILE` of what the self-test found: written with --selftest, and told in a report")
	flags.BoolVar(&s.keep, "keep", false, "keep logs and data of runs that are not right")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.output != "table" && s.output != "json" {
		return s, fmt.Errorf("--output %q: want table or json", s.output)
	}
	if !slices.Contains(kafkaenv.Kinds()[1:], kafkaenv.Kind("kafka-"+s.kafka)) {
		return s, fmt.Errorf("--kafka %q: want 4.3.1 or 3.9.2", s.kafka)
	}
	if _, err := suspected(s.bugs); err != nil {
		return s, err
	}
	if len(s.bugs) > 0 && !s.selfTest {
		return s, errors.New("--bugs says what --selftest seeds: give both")
	}
	if len(s.bugs) > 0 && s.seeded != "" {
		return s, errors.New("--seeded tells of all bugs: give it without --bugs")
	}
	if s.workload != "rotate" {
		if _, err := workload.Parse(s.workload); err != nil {
			return s, err
		}
	}
	return s, nil
}

func run(ctx context.Context, args []string, stdout io.Writer) (err error) {
	s, err := parse(args)
	if err != nil {
		return err
	}
	var faults []fault.Fault
	if s.faults != "" {
		if faults, err = fault.Select(s.faults); err != nil {
			return err
		}
	}
	if s.list {
		for _, f := range faults {
			fmt.Fprintf(stdout, "%-34s %s\n", f.Name(), strings.TrimSuffix(f.What+"; not run: "+f.NotRun, "; not run: "))
		}
		return nil
	}
	s.revision = revision(ctx)
	j, err := openJournal(s.journal, append(s.accept, s.revision))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if s.faults == "" && s.mixed == 0 && !s.selfTest {
		return s.conclude(j)
	}
	suite, closeSuite, err := open(ctx, s)
	if err != nil {
		return err
	}
	if s.selfTest {
		return errors.Join(suite.selfTest(ctx, s, stdout), closeSuite())
	}
	err = errors.Join(suite.all(ctx, s, faults, j, stdout), closeSuite())
	return errors.Join(err, s.conclude(j), ctx.Err())
}

// conclude writes the report over all outcomes, and says whether each of them is right.
func (s *settings) conclude(j *journal) error {
	if s.report != "" {
		found, err := savedFindings(s.seeded)
		if err != nil {
			return err
		}
		if err := os.WriteFile(s.report, []byte(report(j.outcomes, fault.Catalogue(), found, *s)), 0o644); err != nil {
			return err
		}
	}
	if redRuns(j.outcomes) > 0 {
		return errRed
	}
	return nil
}

// open builds the programs and starts the brokers.
func open(ctx context.Context, s settings) (*Suite, func() error, error) {
	programs, err := rig.Build(ctx)
	if err != nil {
		return nil, nil, err
	}
	kind := kafkaenv.Kind("kafka-" + s.kafka)
	ground, err := rig.OpenGround(ctx, kind)
	if err != nil {
		return nil, nil, errors.Join(err, programs.Close())
	}
	suite := &Suite{ground: ground, programs: programs, kafka: kind, guarantee: s.guarantee, rate: s.rate, largeEvery: s.largeEvery, outage: s.outage, keep: s.keep}
	return suite, func() error { return errors.Join(suite.ground.Close(), programs.Close()) }, nil
}

// all makes every run of this shard that has no outcome yet, and prints each outcome as it comes.
func (s *Suite) all(ctx context.Context, set settings, faults []fault.Fault, j *journal, stdout io.Writer) error {
	var shard, shards int
	if _, err := fmt.Sscanf(set.shard, "%d/%d", &shard, &shards); err != nil || shards < 1 || shard < 0 || shard >= shards {
		return fmt.Errorf("--shard %q: want I/N with I below N", set.shard)
	}
	var runs []Run
	for i := range int64(set.seeds) {
		for _, f := range faults {
			if f.NotRun == "" {
				runs = append(runs, Run{Fault: f, Seed: set.firstSeed + i, Kind: kindOf(f, set.workload, set.firstSeed+i)})
			}
		}
	}
	for i := range int64(set.mixed) {
		f := fault.Mixed(set.mixedDuration)
		runs = append(runs, Run{Fault: f, Seed: set.firstSeed + i, Kind: kindOf(f, set.workload, set.firstSeed+i)})
	}
	first := true
	for i, r := range runs {
		if ctx.Err() != nil {
			break
		}
		if i%shards != shard || j.done[runKey(string(s.kafka), r.Fault.Name(), r.Seed)] {
			continue
		}
		o := s.Run(ctx, r)
		if o.environment() { // the machine's fault, such as a port that somebody else took meanwhile
			fmt.Fprintf(os.Stderr, "chaos: %s, seed %d, is made once more: %s\n", r.Fault.Name(), r.Seed, o.Verdict[0])
			o = s.Run(ctx, r)
		}
		o.Revision, o.Load1, o.LargeEvery = set.revision, machine.LoadAverage(), set.largeEvery
		if ctx.Err() != nil { // it was not made to its end
			break
		}
		if err := j.add(o); err != nil {
			return err
		}
		show(stdout, o, set.output, first)
		first = false
	}
	return nil
}

// kindOf is the workload of a run: as asked for, but one that feels the fault.
func kindOf(f fault.Fault, asked string, seed int64) workload.Kind {
	kind := workload.ForSeed(seed)
	if asked != "rotate" {
		kind = workload.Kind(asked)
	}
	if len(f.Kinds) > 0 && !slices.Contains(f.Kinds, kind) {
		kind = f.Kinds[uint64(seed)%uint64(len(f.Kinds))]
	}
	return kind
}

func show(stdout io.Writer, o Outcome, format string, first bool) {
	if format == "json" {
		if err := json.NewEncoder(stdout).Encode(o); err != nil {
			fmt.Fprintln(os.Stderr, "chaos: printing an outcome:", err)
		}
		return
	}
	const row = "%-34s %4v %-8v %9v %5v %5v %5v %7v %8v %9v %7v  %s\n"
	if first {
		fmt.Fprintf(stdout, row, "fault", "seed", "workload", "in", "lost", "dup", "order", "phantom", "detectMs", "outputMs", "stallMs", "verdict")
	}
	verdict := "ok"
	if !o.OK() {
		verdict = strings.Join(o.Verdict, "; ")
	}
	fmt.Fprintf(stdout, row, o.Fault, o.Seed, o.Workload, o.RecordsIn, o.Lost, o.Duplicates, o.OutOfOrder, o.Phantoms,
		number(o.DetectMs), number(o.FirstOutputMs), o.LSOStallMs, verdict)
}

func number(ms *int64) string {
	if ms == nil {
		return "-"
	}
	return fmt.Sprint(*ms)
}
