// Command bench measures Sluice on a real Kafka, beside others in the same run, and prints the figures, their
// ratios and the goals. It asserts no time: figures belong to the machine they were measured on. A wrong output is
// an error all the same.
//
//	go run ./bench                                   # everything, nearly an hour
//	go run ./bench --only throughput --sizes 100     # a part of it
//	go run ./bench --only throughput --cases json,count --contestants sluice,franz-go --modes exactly-once/1s
//	go run ./bench --only recovery,startup --kills 3
//	go run ./bench --only checkpoints,latency --json figures.json
//	go run ./bench --only throughput --profile DIR   # with a CPU profile of each run
//	go run ./bench --from figures.json,scale.json --page docs/BENCHMARKS.md   # measures nothing
//
// The fields of the JSON are documented at Report and the types in it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// The parts of the benchmark.
const (
	partStartup     = "startup"
	partFirstOutput = "first-output"
	partThroughput  = "throughput"
	partLatency     = "latency"
	partCheckpoints = "checkpoints"
	partRecovery    = "recovery"
)

// options are the flags.
type options struct {
	parts, cases []string
	contestants  []string
	sizes        []int
	compressions []string
	modes        []mode
	records      int // of values of up to 256 bytes; see recordsOf
	repeats      int
	kills        int
	flinkKills   int
	starts       int
	checkpoints  int
	rates        []int // records per second while checkpoints are timed
	interval     time.Duration
	guarantee    string
	latency      time.Duration
	latencyModes []mode
	latencyRates []latencyRate
	programs     string
	json         string
	profile      string
	from         []string
	page         string
	flags        []string // those that were given and change what is measured
}

// bench is one run of the benchmark.
type bench struct {
	opts     options
	broker   *broker
	programs *programs
	progress io.Writer
	topics   int               // made for the copies so far
	leftOut  map[string]string // contestants, and what the machine lacks for them
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

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

func parseOptions(args []string) (options, error) {
	parts := []string{partStartup, partFirstOutput, partThroughput, partLatency, partCheckpoints, partRecovery}
	var o options
	fs := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringSliceVar(&o.parts, "only", parts, "parts to run")
	fs.StringSliceVar(&o.cases, "cases", []string{casePass, caseFilter, caseJSON, caseCount, caseProduce, caseConsume}, "jobs of the throughput part: "+strings.Join(jobNames(), ", "))
	fs.IntSliceVar(&o.sizes, "sizes", []int{100, 1024}, "bytes of a value in the throughput part; jobs other than pass, produce and consume use the first")
	fs.StringSliceVar(&o.contestants, "contestants", contestantNames(), "who takes part in the throughput part; flink in the recovery part, too")
	fs.StringSliceVar(&o.compressions, "compression", []string{noCompression, lz4}, "of the topics of the throughput part; jobs other than pass, produce and consume use the first")
	modes := fs.StringSlice("modes", []string{off.String(), atLeastOnce + "/1s", exactlyOnce + "/1s", exactlyOnce + "/100ms"}, "modes of the throughput part, for those who draw checkpoints")
	fs.IntVar(&o.records, "records", 32_000_000, "records of a run with values of up to 256 bytes, twice as many if they are compressed; an eighth with larger ones, three eighths if these are compressed; half for json, three quarters for count")
	fs.IntVar(&o.repeats, "repeats", 3, "runs of each contestant, interleaved, and of the latency")
	fs.IntVar(&o.kills, "kills", 20, "kills of a task manager with spare slots, without, and of the job manager: so many each")
	fs.IntVar(&o.flinkKills, "flink-kills", 5, "kills of a task manager of Flink with its own heartbeats, with tuned ones, and without spare slots, when flink takes part: so many each")
	fs.IntVar(&o.starts, "starts", 10, "starts of a cluster, and of a job in the first-output part")
	fs.IntVar(&o.checkpoints, "checkpoints", 60, "checkpoints to time at each rate")
	fs.IntSliceVar(&o.rates, "rates", []int{0, 1000, 10_000}, "records per second while checkpoints are timed")
	fs.DurationVar(&o.interval, "interval", time.Second, "checkpoint interval of the recovery part")
	fs.StringVar(&o.guarantee, "guarantee", exactlyOnce, "of the sinks in the recovery part")
	fs.DurationVar(&o.latency, "latency", 20*time.Second, "how long each run of the latency part is timed")
	latencyModes := fs.StringSlice("latency-modes", []string{exactlyOnce + "/100ms", atLeastOnce + "/100ms"}, "modes of the latency part")
	latencyRates := fs.StringSlice("latency-rates", []string{"1000", "10000", "50%"}, "records per second of the latency part, or shares of what is sustainable")
	fs.StringVar(&o.programs, "programs", "", "directory with jobmanager, taskmanager, sluice and the programs of bench/rivals; built when empty")
	fs.StringVar(&o.profile, "profile", "", "directory for CPU profiles of the throughput part; empty: none are taken")
	fs.StringVar(&o.json, "json", "", "file for the JSON; empty: stdout, after the tables")
	fs.StringVar(&o.page, "page", "", "Markdown page to write from what was measured, with its charts in img/ beside it")
	fs.StringSliceVar(&o.from, "from", nil, "files of JSON to write the page from, of bench/scale too; nothing is measured")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	fs.Visit(func(f *pflag.Flag) {
		if !slices.Contains([]string{"programs", "profile", "json", "page", "from"}, f.Name) {
			o.flags = append(o.flags, "--"+f.Name+"="+strings.Trim(f.Value.String(), "[]"))
		}
	})
	var bad [3]error
	o.modes, bad[0] = parseModes(*modes)
	o.latencyModes, bad[1] = parseModes(*latencyModes)
	o.latencyRates, bad[2] = parseLatencyRates(*latencyRates)
	return o, errors.Join(
		errors.Join(bad[:]...), known("contestants", o.contestants, contestantNames()), known("compression", o.compressions, []string{noCompression, lz4}),
		positive("sizes", len(o.sizes)), positive("compression", len(o.compressions)),
		known("only", o.parts, parts), known("cases", o.cases, jobNames()), positive("records", o.records/(5*slabRecords)),
		positive("repeats", o.repeats), positive("kills", o.kills), positive("flink-kills", o.flinkKills), positive("starts", o.starts), positive("checkpoints", o.checkpoints),
		positive("interval", int(o.interval)), positive("latency", int(o.latency/time.Second)), known("guarantee", []string{o.guarantee}, []string{exactlyOnce, atLeastOnce}), validSizes(o.sizes), validRates(o.rates),
	)
}

func known(flag string, values, allowed []string) error {
	for _, value := range values {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("--%s: %q is unknown, want some of %s", flag, value, strings.Join(allowed, ", "))
		}
	}
	return nil
}

func positive(flag string, value int) error {
	if value <= 0 {
		return fmt.Errorf("--%s: too small", flag)
	}
	return nil
}

func validSizes(sizes []int) error {
	for _, size := range sizes {
		if size < minValueBytes || size > maxValueBytes {
			return fmt.Errorf("--sizes: %d is not within %d and %d", size, minValueBytes, maxValueBytes)
		}
	}
	return nil
}

func validRates(rates []int) error {
	for _, rate := range rates {
		if rate < 0 {
			return fmt.Errorf("--rates: %d is negative", rate)
		}
	}
	return nil
}

// run starts what is needed, measures and prints. What has been measured before an error is printed too.
func run(ctx context.Context, opts options, stdout, progress io.Writer) (err error) {
	if len(opts.from) > 0 {
		return pageFrom(opts.from, opts.page)
	}
	if missing := kafkaenv.Missing(kafkaenv.Kafka43); missing != "" {
		return fmt.Errorf("the benchmark needs a real Kafka, and %s is not in PATH: install a JDK 17 or newer and Maven", missing)
	}
	b := &bench{opts: opts, progress: progress}
	b.say("building")
	if b.programs, err = buildPrograms(ctx, opts.programs); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.programs.close()) }()
	libraries, err := b.programs.libraries()
	if err != nil {
		return err
	}
	report := Report{Benchmark: recordsBenchmark, Machine: describeMachine(ctx), Settings: opts.settings()}
	report.Settings["libraries"] = libraries
	failure := b.measure(ctx, &report)
	report.Goals = goalsOf(&report)
	report.print(stdout)
	err = errors.Join(failure, figures.WriteJSON(report, opts.json, stdout), report.wrong())
	switch {
	case opts.page == "":
	case failure != nil:
		b.say("%s stays as it is: not everything was measured", opts.page)
	default:
		err = errors.Join(err, pageOf(&report, opts.json, opts.page))
	}
	return err
}

// measure runs the parts; those without a broker first.
func (b *bench) measure(ctx context.Context, report *Report) (err error) {
	wants := func(part string) bool { return slices.Contains(b.opts.parts, part) }
	if wants(partStartup) {
		s, err := b.startup(ctx)
		if err != nil {
			return err
		}
		report.Startup = &s
	}
	withBroker := map[string]func() error{
		partThroughput: func() (err error) {
			report.Runs, err = b.throughput(ctx)
			report.Ratios, report.LeftOut = ratiosOf(report.Runs), b.leftOut
			if err == nil && b.opts.profile != "" {
				report.Profiles, err = profilesOf(ctx, report.Runs, b.opts.profile)
			}
			return err
		},
		partFirstOutput: func() (err error) { report.FirstOutputMs, err = b.firstOutput(ctx); return err },
		partLatency:     func() (err error) { report.Latency, err = b.latency(ctx); return err },
		partCheckpoints: func() (err error) { report.Checkpoints, err = b.checkpoints(ctx); return err },
		partRecovery: func() error {
			r, err := b.recovery(ctx)
			report.Recovery = &r
			return err
		},
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(withBroker)), wants) {
		return nil
	}
	b.say("starting Kafka")
	if b.broker, err = startBroker(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.broker.close()) }()
	if err := b.warmUp(ctx); err != nil {
		return err
	}
	for _, part := range []string{partFirstOutput, partThroughput, partLatency, partCheckpoints, partRecovery} {
		if !wants(part) {
			continue
		}
		if err := withBroker[part](); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}
