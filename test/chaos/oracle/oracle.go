// Package oracle judges a run of a workload: it reads Kafka by franz-go alone, during the run and after it,
// and compares what came out with what the model of the workload says about what went in.
package oracle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

// Config is what an oracle needs to know of a run.
type Config struct {
	Seed     int64
	Workload *workload.Workload
	Faults   []string
	// Brokers is where the oracle reads; no fault may stand between.
	Brokers []string
	// Journal are the records that the generator wrote to the compacted topic: the broker may have dropped
	// some since. Called by Verify; nil: none were.
	Journal func() []workload.Record
	// Acknowledged is how many records of the other input topic the brokers acknowledged and committed; fewer in
	// the scan are a loss of Kafka's. Called by Verify; nil: not checked.
	Acknowledged func() int64
	// DecisionLog is the job manager's file; empty: not checked. Only lines of Job (an id) and of no job count.
	DecisionLog string
	Job         string
	// Published is watched for as long as the oracle is; Verify compares it with the last checkpoint of a job that came to its end.
	Published Published
	// LSOTimeout is how long the last stable offsets may stay behind the high watermarks when Verify begins;
	// default 5 s.
	LSOTimeout time.Duration
}

// exactlyOnce is the guarantee with which output is written in transactions.
const exactlyOnce = "exactly-once"

// Event is a moment of a run that the harness notes.
type Event string

// The moments. Detected, Redeployed and FirstOutput are found by the oracle itself (in the decision log, and by
// the live readers) and need be noted only to overrule it.
const (
	// Fault begins. Each one begins an episode, which has the times of the events that follow.
	Fault Event = "fault"
	// Detected: the job manager acts on the fault. From the decision log: the job leaves RUNNING, not for its user.
	Detected Event = "detected"
	// Redeployed: the job is deployed again. From the decision log: the next deploy after Detected.
	Redeployed Event = "redeployed"
	// FirstOutput: the first record that a live reader gets after Redeployed; if the job writes in transactions, after
	// the first checkpoint of the new deployment, as what comes before is left from the old one.
	FirstOutput Event = "firstOutput"
	// LoadStopped: the generator has ended.
	LoadStopped Event = "loadStopped"
)

// note is an event and its time.
type note struct {
	event Event
	at    time.Time
}

// Oracle watches one run. Start, Note…, and then either Verify or Close.
type Oracle struct {
	config Config
	live   []*liveReader
	// published is nil if nothing is watched.
	published *publishedWatch
	stop      context.CancelFunc
	done      sync.WaitGroup

	mu    sync.Mutex
	notes []note
	// covered, if it is not nil, is how far the job has to have come.
	covered map[string]map[int32]int64
	before  []Sample
	after   []Sample
}

// Start begins the two live readers. The topics are there already. The readers end with ctx, by Verify or by
// Close.
func Start(ctx context.Context, c Config) (*Oracle, error) {
	if c.Workload == nil || len(c.Brokers) == 0 {
		return nil, errors.New("the oracle needs a workload and brokers")
	}
	if c.LSOTimeout == 0 {
		c.LSOTimeout = 5 * time.Second
	}
	ctx, stop := context.WithCancel(ctx)
	o := &Oracle{config: c, stop: stop}
	for _, style := range readerStyles {
		r, err := newLiveReader(c.Brokers, c.Workload.Out(), style)
		if err != nil {
			o.Close()
			return nil, err
		}
		o.live = append(o.live, r)
		o.done.Go(func() { r.run(ctx) })
	}
	if c.Published.Group != "" {
		w, err := watchPublished(c.Brokers, c.Published)
		if err != nil {
			o.Close()
			return nil, err
		}
		o.published = w
		o.done.Go(func() { w.run(ctx) })
	}
	return o, nil
}

// Note takes a moment of the run.
func (o *Oracle) Note(event Event, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.notes = append(o.notes, note{event, at})
}

// Covered says that the job ended in the middle, and of which input the output must be there all the same: of that
// below the offsets of its newest completed checkpoint, by topic and partition.
func (o *Oracle) Covered(offsets map[string]map[int32]int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.covered = offsets
}

// SampleBefore takes what the processes hold before the fault, SampleAfter what they hold when it is over; processes
// are compared by name.
func (o *Oracle) SampleBefore(samples ...Sample) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before = append(o.before, samples...)
}

// SampleAfter is the counterpart of SampleBefore.
func (o *Oracle) SampleAfter(samples ...Sample) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.after = append(o.after, samples...)
}

// Close ends the live readers. After Verify it does nothing.
func (o *Oracle) Close() {
	o.stop()
	o.done.Wait()
	for _, r := range o.live {
		r.close()
	}
	if o.published != nil {
		o.published.close()
	}
}

// Verify scans input and output and judges the run. It is called when the load has stopped, the lag is 0, one
// more checkpoint has been announced, and nothing writes any more. An error means that it could not judge.
func (o *Oracle) Verify(ctx context.Context) (Report, error) {
	defer o.Close()
	w := o.config.Workload
	r := Report{Seed: o.config.Seed, Workload: w.Kind(), Faults: append([]string{}, o.config.Faults...)}
	reader, err := newScanner(o.config.Brokers)
	if err != nil {
		return r, err
	}
	defer reader.close()

	ends, hung, err := reader.settled(ctx, w.Out(), o.config.LSOTimeout)
	if err != nil {
		return r, err
	}
	r.Verdict = append(r.Verdict, hung...)
	expected, err := o.expectation(ctx, reader, &r)
	if err != nil {
		return r, err
	}
	o.mu.Lock()
	covered := o.covered
	o.mu.Unlock()
	if covered != nil {
		expected.limit(covered)
	}
	judge := newJudge(w, expected)
	final, err := reader.output(ctx, ends, w.Out(), judge, len(hung) > 0)
	if err != nil {
		return r, err
	}
	judge.finish(&r)
	if o.published != nil {
		r.Verdict = append(r.Verdict, o.published.finish(ctx, covered == nil)...)
	}
	o.compareReaders(ctx, final, &r)
	if err := o.decisions(&r, judge.writers); err != nil {
		return r, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	leaks := Leaks(o.before, o.after)
	r.Leaks = len(leaks)
	r.Verdict = append(r.Verdict, leaks...)
	return r, nil
}

// expectation scans the input.
func (o *Oracle) expectation(ctx context.Context, reader *scanner, r *Report) (*expectation, error) {
	w := o.config.Workload
	e := newExpectation(w)
	if o.config.Journal != nil {
		for _, record := range o.config.Journal() {
			if err := e.add(record, optional); err != nil {
				return nil, err
			}
		}
	}
	for _, topic := range []string{w.In(), w.Compacted()} {
		if err := reader.input(ctx, topic, e); err != nil {
			return nil, err
		}
	}
	r.RecordsIn = e.known
	if o.config.Acknowledged != nil {
		if want, got := o.config.Acknowledged(), e.requiredOf(w.In()); got < want {
			r.Verdict = append(r.Verdict, fmt.Sprintf("input: Kafka lost %d of %d acknowledged records of %s", want-got, want, w.In()))
		}
	}
	return e, nil
}

// compareReaders compares what the live readers saw with the final scan, and measures their stalls.
func (o *Oracle) compareReaders(ctx context.Context, final *sightings, r *Report) {
	o.mu.Lock()
	stopped := lastOf(o.notes, LoadStopped)
	o.mu.Unlock()
	for _, live := range o.live {
		live.awaitEnd(ctx, final)
	}
	o.Close()
	r.LSOStallMs = o.live[0].longestStall(stopped).Milliseconds() // the other one waits for full fetches
	var mismatch tally
	for i, live := range o.live {
		compareSightings(fmt.Sprintf("live reader %d", i+1), final, &live.saw, &mismatch)
		r.Verdict = append(r.Verdict, live.problems(mismatch.count > 0)...)
	}
	r.ReaderMismatch = mismatch.count
	r.Verdict = append(r.Verdict, mismatch.reasons("reader mismatch")...)
}

// decisions checks the decision log, compares it with who wrote the output, and takes times from it.
func (o *Oracle) decisions(r *Report, written map[writer]string) error {
	var lines []Decision
	if o.config.DecisionLog != "" {
		file, err := os.Open(o.config.DecisionLog)
		if err != nil {
			return fmt.Errorf("decision log: %w", err)
		}
		defer file.Close()
		if lines, err = ReadDecisions(io.Reader(file)); err != nil {
			return fmt.Errorf("decision log %s: %w", o.config.DecisionLog, err)
		}
		lines = OfJob(lines, o.config.Job)
		found := CheckDecisions(lines)
		r.CheckpointsCompleted, r.CheckpointsFailed, r.DecisionFaults = found.Completed, found.Failed, len(found.Faults)
		r.Verdict = append(r.Verdict, found.reasons()...)
		if o.config.Workload.Params().Guarantee == exactlyOnce {
			r.Verdict = append(r.Verdict, unnamed(written, found.Named)...)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	measure(r, o.notes, lines, o.live[0].nextArrival)
	return nil
}
