package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
	"github.com/sluice-stream/sluice/web"
)

// The contestants.
const (
	sluiceName = "sluice"
	franzName  = "franz-go"
)

// The cases. filter and split keep the same records; split needs the CEL interpreter and makes a list of
// the words of each record.
const (
	casePass   = "pass"
	caseFilter = "filter"
	caseSplit  = "split"
)

// runTimeout bounds one run of one contestant.
const runTimeout = 10 * time.Minute

// testCase is one job, for both contestants.
type testCase struct {
	name      string
	filter    string   // CEL
	franzArgs []string // the same filter for the loop
}

// testCases lists every case by name.
var testCases = []testCase{
	{name: casePass},
	{name: caseFilter, filter: `value.startsWith("` + infoStart + `")`, franzArgs: []string{"-prefix", infoStart}},
	{name: caseSplit, filter: `value.split(" ")[0] == "` + infoStart + `"`, franzArgs: []string{"-word", infoStart}},
}

func caseNames() []string {
	var names []string
	for _, c := range testCases {
		names = append(names, c.name)
	}
	return names
}

// contestant is one that copies a topic in some way.
type contestant struct {
	name      string
	interval  time.Duration // of checkpoints or transactions; 0: none
	guarantee string
	run       func(ctx context.Context, how *contestant, c *testCase, data *dataset, target string) (outcome, error)
}

// Run is one run of one contestant. CPU is user and system time of the contestant's processes over their
// whole life up to the end of the run; the broker stands apart.
type Run struct {
	Case       string `json:"case"`
	ValueBytes int    `json:"valueBytes"`
	Contestant string `json:"contestant"`
	// IntervalMs is that of checkpoints or, of a bare loop, transactions; 0: none.
	IntervalMs float64 `json:"intervalMs"`
	// Round counts the repeats; in a round every contestant runs once.
	Round      int     `json:"round"`
	Guarantee  string  `json:"guarantee"`
	RecordsIn  int64   `json:"recordsIn"`
	RecordsOut int64   `json:"recordsOut"`
	Seconds    float64 `json:"seconds"`
	// RecordsPerSec is over the whole run, from before the contestant's start, or the submission of the job,
	// to its end. SteadyPerSec is from a tenth to nine tenths of the output, as seen in the output topic.
	RecordsPerSec   float64          `json:"recordsPerSecond"`
	SteadyPerSec    float64          `json:"steadyRecordsPerSecond"`
	MiBPerSec       float64          `json:"mibPerSecond"`
	CPUSeconds      float64          `json:"cpuSeconds"`
	CPUPerMillion   float64          `json:"cpuSecondsPerMillion"`
	BrokerPerM      float64          `json:"brokerCpuSecondsPerMillion"`
	ForeignCPU      float64          `json:"foreignCpuSeconds"`
	PeakRSSBytes    map[string]int64 `json:"peakRssBytes"`
	AllocsPerRecord float64          `json:"allocationsPerRecord"`
	Checkpoints     int64            `json:"checkpoints"`
	CheckpointMs    float64          `json:"checkpointMeanMs"`
	// Transactions and StalledMs, the sum of all waits for an id, are what a bare transactional loop counts.
	Transactions int64   `json:"transactions,omitempty"`
	StalledMs    float64 `json:"stalledMs,omitempty"`
	Wrong        string  `json:"wrong,omitempty"`
}

// outcome is what a contestant reports about itself.
type outcome struct {
	elapsed, cpu time.Duration
	peak         map[string]int64
	mallocs      uint64
	checkpoints  checkpointTimes
	transactions int64
	stalled      time.Duration
}

// throughput runs every case on every topic, the contestants in turn and in alternating order.
func (b *bench) throughput(ctx context.Context) ([]Run, error) {
	var runs []Run
	for _, size := range b.opts.sizes {
		data, err := b.fill(ctx, size, b.franz())
		if err != nil {
			return runs, err
		}
		for _, name := range b.opts.cases {
			c := caseByName(name)
			for i := range b.opts.repeats {
				order := []*contestant{b.sluice(), b.franz()}
				if i%2 == 1 {
					slices.Reverse(order)
				}
				for _, how := range order {
					run, err := b.one(ctx, c, data, how)
					if err != nil {
						return runs, err
					}
					run.Round = i + 1
					runs = append(runs, run)
				}
			}
		}
		if err := b.broker.deleteTopic(ctx, data.topic); err != nil {
			return runs, err
		}
	}
	return runs, nil
}

func (b *bench) sluice() *contestant {
	return &contestant{name: sluiceName, interval: b.opts.interval, guarantee: atLeastOnce, run: b.runSluice}
}

func (b *bench) franz() *contestant { return &contestant{name: franzName, run: b.runFranz} }

func caseByName(name string) *testCase {
	for i := range testCases {
		if testCases[i].name == name {
			return &testCases[i]
		}
	}
	return nil
}

// warmUpRecords are written, read and thrown away, so that the broker's code is compiled before anything
// is measured.
const warmUpRecords = 1_000_000

func (b *bench) warmUp(ctx context.Context) error {
	b.say("warming the broker up")
	data, err := fillTopic(ctx, b.broker, "warm-up", trafficValueBytes, warmUpRecords)
	if err != nil {
		return err
	}
	wrong, err := verify(ctx, b.broker, data.topic, &data.all)
	if err == nil && wrong != "" {
		err = fmt.Errorf("the broker does not give back what it was given: %s", wrong)
	}
	return errors.Join(err, b.broker.deleteTopic(ctx, data.topic))
}

// fill loads a topic and reads it once, which proves it. Each of the contestants that are to warm the
// broker up copies it once, unmeasured.
func (b *bench) fill(ctx context.Context, valueBytes int, warmers ...*contestant) (*dataset, error) {
	records := b.opts.records
	if valueBytes > 256 {
		records /= 5
	}
	b.say("loading %d records of %d bytes", records, valueBytes)
	b.topics++
	data, err := fillTopic(ctx, b.broker, fmt.Sprintf("in-%d", b.topics), valueBytes, records)
	if err != nil {
		return nil, err
	}
	wrong, err := verify(ctx, b.broker, data.topic, &data.all)
	if err == nil && wrong != "" {
		err = fmt.Errorf("the input itself is wrong: %s", wrong)
	}
	if err != nil {
		return nil, err
	}
	for _, how := range warmers {
		b.say("a copy by %s that does not count", how.name)
		b.topics++
		target := fmt.Sprintf("uncounted-%d", b.topics)
		if err := b.broker.createTopic(ctx, target); err != nil {
			return nil, err
		}
		if _, err := how.run(ctx, how, caseByName(casePass), data, target); err != nil {
			return nil, err
		}
		if err := b.broker.deleteTopic(ctx, target); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// one makes a fresh output topic, runs one contestant, and verifies what it wrote.
func (b *bench) one(ctx context.Context, c *testCase, data *dataset, how *contestant) (result Run, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s of %s, %d-byte values: %w", how.name, c.name, data.valueBytes, err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	b.topics++
	target := fmt.Sprintf("out-%d", b.topics)
	if err := b.broker.createTopic(ctx, target); err != nil {
		return result, err
	}
	start, err := b.others()
	if err != nil {
		return result, err
	}
	watch := observe(ctx, b.broker, target)
	out, err := how.run(ctx, how, c, data, target)
	steady, watchErr := watch.end()
	if err = errors.Join(err, watchErr); err != nil {
		return result, err
	}
	end, err := b.others()
	if err != nil {
		return result, err
	}
	want := &data.all
	if c.filter != "" {
		want = &data.infos
	}
	result = newRun(c, data, how, out)
	result.RecordsOut = want.total()
	result.SteadyPerSec = steady * float64(result.RecordsIn) / float64(result.RecordsOut)
	result.BrokerPerM = (end.broker - start.broker).Seconds() * 1e6 / float64(data.records)
	result.ForeignCPU = max(0, (end.machine - start.machine - (end.broker - start.broker) - (end.self - start.self) - out.cpu).Seconds())
	if result.Wrong, err = verify(ctx, b.broker, target, want); err != nil {
		return result, err
	}
	b.say("%s", result.line())
	return result, b.broker.deleteTopic(ctx, target)
}

func newRun(c *testCase, data *dataset, how *contestant, out outcome) Run {
	n := float64(data.records)
	return Run{
		Case: c.name, ValueBytes: data.valueBytes, Contestant: how.name, IntervalMs: ms(how.interval), Guarantee: how.guarantee, RecordsIn: int64(data.records),
		Seconds: out.elapsed.Seconds(), RecordsPerSec: n / out.elapsed.Seconds(),
		MiBPerSec:  n * float64(data.valueBytes) / (1 << 20) / out.elapsed.Seconds(),
		CPUSeconds: out.cpu.Seconds(), CPUPerMillion: out.cpu.Seconds() / n * 1e6,
		PeakRSSBytes: out.peak, AllocsPerRecord: float64(out.mallocs) / n,
		Checkpoints: out.checkpoints.count, CheckpointMs: out.checkpoints.meanMs(),
		Transactions: out.transactions, StalledMs: ms(out.stalled),
	}
}

func (r *Run) line() string {
	verdict := "output ok"
	if r.Wrong != "" {
		verdict = "DISQUALIFIED: " + r.Wrong
	}
	return fmt.Sprintf("%-8s %4d B %-24s %9.0f records/s (steady %.0f), %6.3f CPU-s per million (broker %.2f), %.4f allocations per record, %s",
		r.Case, r.ValueBytes, r.Contestant, r.RecordsPerSec, r.SteadyPerSec, r.CPUPerMillion, r.BrokerPerM, r.AllocsPerRecord, verdict)
}

// othersCPU is what the rest of the machine has used; the rest of a difference is foreign load.
type othersCPU struct{ machine, broker, self time.Duration }

func (b *bench) others() (othersCPU, error) {
	var o othersCPU
	var err error
	if o.machine, err = machineBusy(); err != nil {
		return o, err
	}
	kafka, err := usageOf(b.broker.pid)
	if err != nil {
		return o, err
	}
	self, err := usageOf(os.Getpid())
	o.broker, o.self = kafka.CPU, self.CPU
	return o, err
}

// runSluice starts a fresh cluster, so that peak memory is that of this run, and waits for the bounded
// job to finish. The time is that of `sluice submit --wait`.
func (b *bench) runSluice(ctx context.Context, how *contestant, c *testCase, data *dataset, target string) (out outcome, err error) {
	cl, err := startCluster(b.programs, partitions/slotsPerTM)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	spec := jobSpec{broker: b.broker.addr, source: data.topic, target: target, filter: c.filter, startup: "earliest", bounded: true, interval: how.interval, guarantee: how.guarantee}
	profiled := b.profile(ctx, cl, c, how, data)
	start := time.Now()
	answer, err := cl.submit(ctx, spec.yaml(), "--wait")
	out.elapsed = time.Since(start)
	if err = errors.Join(err, profiled()); err != nil {
		return out, err
	}
	var job web.Job
	if err := json.Unmarshal(answer, &job); err != nil {
		return out, fmt.Errorf("reading the final state of the job: %w", err)
	}
	if job.State != "FINISHED" {
		return out, fmt.Errorf("the job is %s, want FINISHED\n%s", job.State, cl.logs())
	}
	out.peak = map[string]int64{}
	for name, p := range cl.processes() {
		u, err := usageOf(p.Pid())
		if err != nil {
			return out, err
		}
		out.cpu += u.CPU
		out.peak[name] = u.PeakRSSBytes
	}
	if out.mallocs, err = cl.mallocs(); err != nil {
		return out, err
	}
	out.checkpoints, err = cl.checkpointTimes()
	return out, err
}

// processes is every process by name.
func (c *cluster) processes() map[string]*process.Process {
	all := map[string]*process.Process{jobManagerName: c.jm}
	for _, tm := range c.tms {
		all[tm.id] = tm.process
	}
	return all
}

// runFranz runs the franz-go loop.
func (b *bench) runFranz(ctx context.Context, _ *contestant, c *testCase, data *dataset, target string) (outcome, error) {
	return b.runLoop(ctx, "franz", append([]string{"-brokers", b.broker.addr, "-source", data.topic, "-target", target}, c.franzArgs...))
}

// runLoop runs one of the rivals as a process. The time is that of the process.
func (b *bench) runLoop(ctx context.Context, program string, args []string) (out outcome, err error) {
	dir, err := os.MkdirTemp("", "sluice-bench-loop-")
	if err != nil {
		return out, fmt.Errorf("making a directory for the loop: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
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
