package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/test/machine"
)

const (
	// runTimeout bounds one run of one contestant.
	runTimeout = 10 * time.Minute
	orderSeed  = 1
)

// throughput fills one topic after the other and lets everyone do the jobs that are for it.
func (b *bench) throughput(ctx context.Context) (runs []Run, err error) {
	taking, leftOut := b.taking()
	for name, why := range leftOut {
		b.say("LEFT OUT: %s, because this machine lacks %s", name, why)
	}
	b.leftOut = leftOut
	warm := map[string]bool{}
	for _, plan := range b.plans() {
		some, err := b.onData(ctx, plan, taking, warm)
		runs = append(runs, some...)
		if err != nil {
			return runs, err
		}
	}
	return runs, nil
}

// taking are the contestants asked for that can run here, and why others cannot.
func (b *bench) taking() (out []*contestant, leftOut map[string]string) {
	leftOut = map[string]string{}
	for _, c := range contestants() {
		if !slices.Contains(b.opts.contestants, c.name) {
			continue
		}
		if c.missing != nil {
			if why := c.missing(); why != "" {
				leftOut[c.name] = why
				continue
			}
		}
		out = append(out, c)
	}
	return out, leftOut
}

// plan is a data set with the jobs that are done on it.
type plan struct {
	data datasetSpec
	jobs []*job
}

// plans lists the data sets: jobs that are done everywhere at every size and compression, the others on one each,
// with the first compression, and lines of the first size.
func (b *bench) plans() []plan {
	var out []plan
	for i, size := range b.opts.sizes {
		for k, compression := range b.opts.compressions {
			p := plan{data: datasetSpec{lines, size, compression, b.recordsOf(size, compression)}}
			for _, name := range b.opts.cases {
				if j := jobByName(name); j.kind == lines && (j.everywhere || i+k == 0) {
					p.jobs = append(p.jobs, j)
				}
			}
			if len(p.jobs) > 0 {
				out = append(out, p)
			}
		}
	}
	for _, name := range b.opts.cases {
		switch j := jobByName(name); j.kind {
		case objects:
			out = append(out, plan{datasetSpec{objects, objectBytes, b.opts.compressions[0], b.opts.records / 2}, []*job{j}})
		case keyed:
			out = append(out, plan{datasetSpec{keyed, keyedBytes, b.opts.compressions[0], b.opts.records * 3 / 4}, []*job{j}})
		}
	}
	return out
}

// recordsOf is how many lines a topic has, so that the fastest contestant takes some five seconds: long ones take longer,
// compressed ones are passed on unopened.
func (b *bench) recordsOf(valueBytes int, compression string) int {
	switch {
	case valueBytes <= 256 && compression != noCompression:
		return b.opts.records * 2
	case valueBytes <= 256:
		return b.opts.records
	case compression != noCompression:
		return b.opts.records * 3 / 8
	default:
		return b.opts.records / 8
	}
}

// onData fills a topic and has its jobs done by all, and deletes it. warm holds the jobs that have been done
// before.
func (b *bench) onData(ctx context.Context, plan plan, taking []*contestant, warm map[string]bool) (runs []Run, err error) {
	data, err := b.fill(ctx, plan.data)
	if err != nil {
		return nil, err
	}
	for _, j := range plan.jobs {
		entries := b.entries(data, j, taking)
		err = b.prepare(ctx, entries)
		if err == nil && !warm[j.name] {
			err = b.uncounted(ctx, unprepared(entries))
			warm[j.name] = true
		}
		var some []Run
		if err == nil {
			some, err = b.doJob(ctx, entries)
		}
		runs = append(runs, some...)
		if err != nil {
			return runs, errors.Join(err, closeAll(taking))
		}
	}
	return runs, errors.Join(closeAll(taking), b.broker.deleteTopic(ctx, data.topic))
}

func closeAll(taking []*contestant) error {
	var errs []error
	for _, c := range taking {
		if c.close != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(errs...)
}

// uncounted has everyone do a job once, unmeasured: the first of a kind warms the broker up, transactions above
// all.
func (b *bench) uncounted(ctx context.Context, entries []*trial) error {
	for _, t := range entries {
		b.say("uncounted: %s", t)
		if err := b.withTarget(ctx, t, func(ctx context.Context) error { _, err := t.by.run(ctx, b, t); return err }); err != nil {
			return err
		}
	}
	return nil
}

// unprepared are those who do not make ready by doing the job.
func unprepared(entries []*trial) []*trial {
	return slices.DeleteFunc(slices.Clone(entries), func(t *trial) bool { return t.by.prepare != nil })
}

// prepare has everyone make ready for a job, so that no start of a rival falls into a run.
func (b *bench) prepare(ctx context.Context, entries []*trial) error {
	for _, t := range entries {
		if t.by.prepare == nil {
			continue
		}
		if err := t.by.prepare(ctx, b, t); err != nil {
			return fmt.Errorf("preparing %s: %w", t, err)
		}
	}
	return nil
}

// doJob runs everyone in each round, in an order that is drawn for the round, so that being first or after a certain
// other is nobody's alone. The order is the same in every benchmark.
func (b *bench) doJob(ctx context.Context, entries []*trial) (runs []Run, err error) {
	afterFlink := slices.ContainsFunc(entries, func(t *trial) bool { return t.by.name == flinkName }) // it has just been warmed
	for round := range b.opts.repeats {
		for _, k := range rand.New(rand.NewPCG(orderSeed, uint64(round))).Perm(len(entries)) {
			isFlink := entries[k].by.name == flinkName
			if afterFlink && !isFlink {
				if err := b.settle(ctx, entries); err != nil {
					return runs, err
				}
			}
			afterFlink = isFlink
			entries[k].round = round + 1
			run, err := b.one(ctx, entries[k])
			if err != nil {
				return runs, err
			}
			run.Round = round + 1
			runs = append(runs, run)
		}
	}
	return runs, nil
}

// settle lets a run pass that does not count. The broker needs more processor time in the run after one of Flink, whoever
// makes it: with values that are not compressed a run of three seconds took one more, in each of a dozen cases.
func (b *bench) settle(ctx context.Context, entries []*trial) error {
	i := slices.IndexFunc(entries, func(t *trial) bool { return t.by.name == bareName })
	if i < 0 {
		i = slices.IndexFunc(entries, func(t *trial) bool { return t.by.name != flinkName })
	}
	return b.uncounted(ctx, entries[i:i+1])
}

// entries are all who do a job, once for each of their modes.
func (b *bench) entries(data *dataset, j *job, taking []*contestant) []*trial {
	var out []*trial
	for _, c := range taking {
		if !slices.Contains(c.jobs, j.name) {
			continue
		}
		for _, m := range c.modes(b.opts.modes) {
			out = append(out, &trial{by: c, mode: m, job: j, data: data})
		}
	}
	return out
}

// warmUpRecords are written, read and thrown away, so that the broker's code is compiled before anything
// is measured.
const warmUpRecords = 1_000_000

func (b *bench) warmUp(ctx context.Context) error {
	b.say("warming the broker up")
	data, err := b.fill(ctx, datasetSpec{lines, trafficValueBytes, noCompression, warmUpRecords})
	if err != nil {
		return err
	}
	return b.broker.deleteTopic(ctx, data.topic)
}

// fill loads a topic and reads it once, which proves it.
func (b *bench) fill(ctx context.Context, spec datasetSpec) (*dataset, error) {
	b.say("loading %d records: %s", spec.records, spec)
	b.topics++
	data, err := fillTopic(ctx, b.broker, fmt.Sprintf("in-%d", b.topics), spec)
	if err != nil {
		return nil, err
	}
	wrong, err := verify(ctx, b.broker, data.topic, &data.all)
	if err == nil && wrong != "" {
		err = fmt.Errorf("the input itself is wrong: %s", wrong)
	}
	return data, err
}

// withTarget gives the trial a fresh output topic while it is being done, and bounds its time.
func (b *bench) withTarget(ctx context.Context, t *trial, do func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, fmt.Errorf("the run took longer than %s", runTimeout))
	defer cancel()
	b.topics++
	t.target = fmt.Sprintf("out-%d", b.topics)
	if err := b.broker.createTopic(ctx, t.target); err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	return b.broker.deleteTopic(ctx, t.target)
}

// one does a trial, measures it, and verifies what was written.
func (b *bench) one(ctx context.Context, t *trial) (result Run, err error) {
	err = b.withTarget(ctx, t, func(ctx context.Context) error {
		if result, err = b.measured(ctx, t); err != nil {
			return err
		}
		result.Wrong, err = verify(ctx, b.broker, t.target, t.job.want(t.data))
		b.say("%s", result.line())
		return err
	})
	return result, err
}

func (b *bench) measured(ctx context.Context, t *trial) (result Run, err error) {
	start, err := b.others()
	if err != nil {
		return result, err
	}
	watch := observe(ctx, b.broker, t.target)
	out, err := t.by.run(ctx, b, t)
	steady, watchErr := watch.end()
	if err = errors.Join(err, watchErr); err != nil {
		return result, err
	}
	end, err := b.others()
	if err != nil {
		return result, err
	}
	result = newRun(t, out)
	if result.RecordsOut > 0 {
		result.SteadyPerSec = steady * float64(result.RecordsIn) / float64(result.RecordsOut)
	}
	result.BrokerPerM = (end.broker - start.broker).Seconds() * 1e6 / float64(t.data.records)
	result.ForeignCPU = max(0, (end.machine - start.machine - (end.broker - start.broker) - (end.self - start.self) - out.cpu - out.commands).Seconds())
	return result, nil
}

// othersCPU is what the rest of the machine has used; the rest of a difference is foreign load.
type othersCPU struct{ machine, broker, self time.Duration }

func (b *bench) others() (othersCPU, error) {
	var o othersCPU
	var err error
	if o.machine, err = machine.Busy(); err != nil {
		return o, err
	}
	kafka, err := machine.UsageOf(b.broker.pid)
	if err != nil {
		return o, err
	}
	self, err := machine.UsageOf(os.Getpid())
	o.broker, o.self = kafka.CPU, self.CPU
	return o, err
}
