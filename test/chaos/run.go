package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/fault"
	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/cluster"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

const (
	// runTimeout bounds one run, the outage of a fault aside.
	runTimeout = 8 * time.Minute
	// recoverTimeout bounds the wait for a healthy job before and after the fault, and for lag 0.
	recoverTimeout = 2 * time.Minute
	// warmCheckpoints are complete before the fault, and more are complete after it.
	warmCheckpoints = 3
)

// environment begins a reason that says nothing about the job: it was not yet there.
const environment = "environment: "

// Suite is what all runs have in common.
type Suite struct {
	ground     *rig.Ground
	programs   *rig.Programs
	kafka      kafkaenv.Kind
	guarantee  string
	rate       int // records per second
	largeEvery int // records
	outage     time.Duration
	keep       bool     // the directories of failed runs
	env        []string // of every process, such as a seeded bug
}

// Run is one run of the suite.
type Run struct {
	Fault fault.Fault
	Kind  workload.Kind
	Seed  int64
}

// Outcome is what one run gave; as JSON one object.
type Outcome struct {
	oracle.Report
	Fault    string   `json:"fault"`
	Kafka    string   `json:"kafka"`
	States   []string `json:"states"`
	Attempts int64    `json:"attempts"`
	Failure  string   `json:"failure"` // the last reason that the job gave
	// Missing are the outputs that are not there of a job that ended with a loss of data, as it announced. They do not
	// count as lost.
	Missing    int64 `json:"missing"`
	DurationMs int64 `json:"durationMs"`
	// Load1 is the machine's load average over the last minute of the run; 0: not known.
	Load1 float64 `json:"load1,omitempty"`
	// LargeEvery: every so many records had 512 KiB, -1: none; 0: not known.
	LargeEvery int `json:"largeEvery,omitempty"`
	// Revision is the commit that was tested.
	Revision string `json:"revision"`
}

// stage is the parts of a run while it goes on.
type stage struct {
	suite    *Suite
	run      Run
	work     *workload.Workload
	dir      string
	rig      *rig.Rig
	job      string
	oracle   *oracle.Oracle
	load     *load
	timeline *timeline
	began    time.Time // of the fault
	before   cluster.Job
	holds    []oracle.Sample // before the fault
	failure  string
	tuning   fault.Tuning
	// jobManager is the process id before the fault.
	jobManager int
	// drawn are the faults of a mixed run.
	drawn []string
}

// Run makes one run and judges it. What kept it from being judged is a reason too.
func (s *Suite) Run(ctx context.Context, run Run) Outcome {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, runTimeout+s.outage)
	defer cancel()
	out, err := s.judge(ctx, run)
	out.Fault, out.Kafka, out.Seed, out.Workload = run.Fault.Name(), string(s.kafka), run.Seed, run.Kind
	if out.Faults == nil {
		out.Faults = []string{run.Fault.Name()}
	}
	if err != nil {
		out.Verdict = append(out.Verdict, err.Error())
	}
	out.DurationMs = time.Since(began).Milliseconds()
	return out
}

func (s *Suite) judge(ctx context.Context, run Run) (out Outcome, err error) {
	if err := s.heal(ctx); err != nil {
		return out, fmt.Errorf("%s%w", environment, err)
	}
	st := &stage{suite: s, run: run}
	defer func() {
		out.Faults = st.drawn
		err = errors.Join(err, st.close(len(out.Verdict) > 0 || err != nil))
	}()
	if err := st.setUp(ctx); err != nil {
		return out, fmt.Errorf("%s%w", environment, err)
	}
	if err := st.warmUp(ctx); err != nil {
		return out, err
	}
	reasons, err := st.strike(ctx)
	if err != nil {
		return out, err
	}
	if run.Fault.Expect.Final == "" {
		if err := st.quiesce(ctx); err != nil {
			return out, err
		}
		if err := st.end(ctx); err != nil {
			return out, err
		}
	}
	out.Report, err = st.oracle.Verify(ctx)
	if err != nil {
		return out, err
	}
	out.Failure = st.failure
	out.Attempts, out.States = st.timeline.attempts()-st.before.Attempt, st.timeline.states(st.began)
	if out.Attempts == 0 && run.Fault.Expect.Final == "" {
		out.DetectMs, out.RedeployMs, out.FirstOutputMs = nil, nil, nil // the job left RUNNING at its end only
	}
	out.tolerate(run.Fault.Expect)
	out.Verdict = append(out.Verdict, out.announced(run.Fault.Expect)...)
	out.Verdict = append(out.Verdict, append(reasons, st.expectations(out.Attempts)...)...)
	return out, nil
}

// heal makes the brokers whole again, by new ones if a fault broke them.
func (s *Suite) heal(ctx context.Context) error {
	err := s.ground.Heal(ctx)
	if err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "chaos: starting new brokers:", err)
	if err := s.ground.Close(); err != nil {
		return err
	}
	s.ground, err = rig.OpenGround(ctx, s.kafka)
	return err
}

// environment says that the run came to nothing before the job was there.
func (o *Outcome) environment() bool {
	return len(o.Verdict) > 0 && strings.HasPrefix(o.Verdict[0], environment)
}

// mostLost finds how much a loss costs at most, by its message.
var mostLost = regexp.MustCompile("--from-checkpoint \\S+` loses nothing and .*--from-checkpoint \\S+` writes nothing twice and loses at most (\\d+) records")

// announced compares a loss with what the job said of it: both ways out, where the output was, and how much is gone at
// most.
func (o *Outcome) announced(expect fault.Expect) []string {
	if !expect.DataLoss || expect.Final == "" {
		return nil
	}
	found := mostLost.FindStringSubmatch(o.Failure)
	if found == nil || !strings.Contains(o.Failure, "; the output that is lost: ") {
		return []string{fmt.Sprintf("state: the job does not say what is lost and what can be done: %q", o.Failure)}
	}
	if most, err := strconv.ParseInt(found[1], 10, 64); err != nil || o.Missing == 0 || o.Missing > most {
		return []string{fmt.Sprintf("lost: %d records are missing, the job says at most %s", o.Missing, found[1])}
	}
	return nil
}

// tolerate drops what the fault excuses: a loss that the job announces.
func (o *Outcome) tolerate(expect fault.Expect) {
	if !expect.DataLoss {
		return
	}
	o.Missing, o.Lost = o.Lost, 0
	var left oracle.Verdict
	for _, reason := range o.Verdict {
		if !strings.HasPrefix(reason, "lost") {
			left = append(left, reason)
		}
	}
	o.Verdict = left
}

// setUp makes topics, starts the processes and the load, and submits the job.
func (st *stage) setUp(ctx context.Context) (err error) {
	s := st.suite
	if st.dir, err = os.MkdirTemp("", "sluice-chaos-"); err != nil {
		return fmt.Errorf("making a directory for a run: %w", err)
	}
	tuning := &st.tuning
	*tuning = fault.Tuning{TaskManagers: 3, TransactionTimeout: 2 * time.Minute}
	if st.run.Fault.Tune != nil {
		st.run.Fault.Tune(tuning)
	}
	if err := st.openZooKeeper(ctx); err != nil {
		return err
	}
	st.work, err = workload.New(st.run.Kind, workload.Params{
		Name: fmt.Sprintf("chaos-%x-%x", time.Now().UnixNano(), st.run.Seed), Brokers: s.ground.Led(), Replication: rig.Brokers,
		Guarantee: s.guarantee, CheckpointTimeout: tuning.CheckpointTimeout, TransactionTimeout: tuning.TransactionTimeout,
		SourceProperties: tuning.SourceProperties, OffsetStorage: tuning.OffsetStorage, Retain: tuning.Retain,
	})
	if err != nil {
		return err
	}
	brokers := strings.Split(s.ground.Direct(), ",")
	if err := st.work.CreateTopics(ctx, brokers...); err != nil {
		return err
	}
	options := rig.Options{
		Ground: s.ground, Programs: s.programs, Dir: st.dir, TaskManagers: tuning.TaskManagers, Slots: (st.work.Slots() + 1) / 2,
		Env: s.env, JobManagerEnv: tuning.JobManagerEnv, WorkerEnv: tuning.WorkerEnv,
	}
	if tuning.DiskBytes > 0 {
		if options.DataDir, err = mountDisk(filepath.Join(st.dir, "disk"), tuning.DiskBytes); err != nil {
			return err
		}
	}
	if st.rig, err = rig.Start(ctx, options); err != nil {
		return err
	}
	file := st.work.JobFile()
	if tuning.Cold { // the input is empty: its latest offsets are its earliest, unless somebody looks again later
		file = strings.ReplaceAll(file, "startup: earliest", "startup: latest")
	}
	if st.job, err = st.rig.Submit(ctx, "job", file); err != nil {
		return err
	}
	st.timeline = watch(st.rig, st.job)
	generator, err := st.work.NewGenerator(workload.Load{Brokers: brokers, Seed: st.run.Seed, Rate: s.rate, LargeEvery: s.largeEvery, Keys: tuning.Keys, KeyBytes: tuning.KeyBytes})
	if err != nil {
		return err
	}
	st.load = startLoad(generator)
	st.oracle, err = oracle.Start(ctx, oracle.Config{
		Seed: st.run.Seed, Workload: st.work, Brokers: brokers, Journal: st.load.Journal, Acknowledged: st.load.Acknowledged,
		DecisionLog: st.rig.DecisionLog(), Job: st.job, Published: st.published(),
	})
	return err
}

// openZooKeeper starts the ZooKeeper of a job that publishes its offsets there.
func (st *stage) openZooKeeper(ctx context.Context) error {
	if st.tuning.OffsetStorage != "zookeeper" {
		return nil
	}
	connect, err := st.suite.ground.OpenZooKeeper(ctx)
	if err != nil {
		return err
	}
	properties := map[string]string{"zookeeper.connect": connect}
	maps.Copy(properties, st.tuning.SourceProperties)
	st.tuning.SourceProperties = properties
	return nil
}

// warmUp waits until the job has completed a few checkpoints.
func (st *stage) warmUp(ctx context.Context) (err error) {
	st.before, err = st.rig.WaitFor(ctx, st.job, "warm", recoverTimeout, func(j *cluster.Job) bool {
		return j.State == "RUNNING" && (j.LatestID() >= warmCheckpoints || st.tuning.Cold)
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, st.rig.Tails(4<<10))
	}
	if st.tuning.Cold {
		return nil
	}
	samples, err := sample(ctx, st.rig)
	st.holds, st.jobManager = anyRole(samples), st.rig.JobManager().Pid()
	return err
}

// strike injects the fault and waits until the job is healthy again. Reasons are what went otherwise than
// expected.
func (st *stage) strike(ctx context.Context) (reasons []string, err error) {
	f := st.run.Fault
	scene := &fault.Scene{
		Rig: st.rig, Job: st.job, Workload: st.work, Rand: rand.New(rand.NewPCG(uint64(st.run.Seed), 1)), Outage: st.suite.outage,
		Begin: func() {
			st.began = time.Now()
			st.oracle.Note(oracle.Fault, st.began)
		},
		Drawn: func(name string) { st.drawn = append(st.drawn, name) },
	}
	if err := f.Inject(ctx, scene); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", f.Name(), err, st.rig.Tails(4<<10))
	}
	if err := st.rig.Heal(ctx); err != nil {
		return nil, err
	}
	if f.Expect.Final != "" {
		if err := st.stopLoad(); err != nil {
			return nil, err
		}
		last, err := st.rig.WaitFor(ctx, st.job, f.Expect.Final, recoverTimeout, func(j *cluster.Job) bool { return j.State == f.Expect.Final })
		if err != nil {
			return nil, err
		}
		return append(st.failureOf(&last), st.covers(&last)...), nil
	}
	now, err := st.rig.WaitFor(ctx, st.job, "there", recoverTimeout, func(*cluster.Job) bool { return true })
	if err != nil {
		return nil, err
	}
	healthy, err := st.rig.WaitFor(ctx, st.job, "healthy again", recoverTimeout, func(j *cluster.Job) bool {
		return j.State == "RUNNING" && j.LatestID() >= now.LatestID()+warmCheckpoints
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, st.rig.Tails(4<<10))
	}
	if st.tuning.Cold {
		return st.failureOf(&healthy), nil
	}
	if st.rig.JobManager().Pid() != st.jobManager {
		st.holds = takenOver(st.holds)
	}
	samples, err := settledSample(ctx, st.rig, st.holds)
	st.oracle.SampleBefore(st.holds...)
	st.oracle.SampleAfter(samples...)
	return st.failureOf(&healthy), err
}

// failureOf takes the reason that the job gives, and judges it.
func (st *stage) failureOf(job *cluster.Job) []string {
	expect := st.run.Fault.Expect
	if job.Failure != nil {
		st.failure = job.Failure.Message
	}
	switch {
	case expect.Failure == "":
		return nil
	case job.Failure == nil:
		return []string{fmt.Sprintf("state: the job gives no reason, want one with %q", expect.Failure)}
	case !strings.Contains(job.Failure.Message, expect.Failure):
		return []string{fmt.Sprintf("state: the job gives as reason %q, want one with %q", job.Failure.Message, expect.Failure)}
	default:
		return nil
	}
}

func (st *stage) stopLoad() error {
	st.oracle.Note(oracle.LoadStopped, time.Now())
	return st.load.stop()
}

// quiesce stops the load and waits until all of it is read, covered by a checkpoint and announced.
func (st *stage) quiesce(ctx context.Context) error {
	if err := st.stopLoad(); err != nil {
		return err
	}
	admin, err := st.rig.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	ends, err := admin.ListEndOffsets(ctx, st.work.In(), st.work.Compacted())
	if err = errors.Join(err, ends.Error()); err != nil {
		return fmt.Errorf("listing the ends of the input: %w", err)
	}
	covered := func(j *cluster.Job) bool {
		if j.State != "RUNNING" || j.Checkpoints.Latest == nil || !j.Checkpoints.Latest.Committed {
			return false
		}
		for _, topics := range j.Checkpoints.Latest.Offsets {
			for topic, partitions := range topics {
				for partition, at := range partitions {
					number, err := strconv.Atoi(partition)
					if end, ok := ends.Lookup(topic, int32(number)); err != nil || ok && at < end.Offset {
						return false
					}
				}
			}
		}
		return true
	}
	job, err := st.rig.WaitFor(ctx, st.job, "at lag 0", recoverTimeout, covered)
	if err != nil {
		return fmt.Errorf("%w\nends %v\n%s", err, ends, st.rig.Tails(4<<10))
	}
	_, err = st.rig.WaitFor(ctx, st.job, "past one more checkpoint", recoverTimeout, func(j *cluster.Job) bool {
		return j.LatestID() > job.LatestID() && j.Checkpoints.Latest.Committed
	})
	return err
}

// end ends the job, by cancel or by stop, in turn with the seed.
func (st *stage) end(ctx context.Context) error {
	verb, state := "cancel", "CANCELED"
	if st.run.Seed%2 == 1 {
		verb, state = "stop", "STOPPED"
	}
	result, err := st.rig.Sluice(ctx, verb, st.job)
	if err != nil {
		return err
	}
	if result.Code != 0 {
		return fmt.Errorf("sluice %s: exit code %d: %s%s", verb, result.Code, result.Stdout, result.Stderr)
	}
	_, err = st.rig.WaitFor(ctx, st.job, state, recoverTimeout, func(j *cluster.Job) bool { return j.State == state })
	return err
}

// close ends what runs. The directory of a failed run stays if that is asked for.
func (st *stage) close(failed bool) error {
	var errs []error
	if st.load != nil {
		_ = st.load.stop() // known since the first time, or the run has failed anyway
	}
	if st.oracle != nil {
		st.oracle.Close()
	}
	if st.timeline != nil {
		st.timeline.stop()
	}
	if st.rig != nil {
		errs = append(errs, st.rig.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if st.work != nil {
		st.suite.ground.Mesh.Heal()
		errs = append(errs, st.suite.ground.DeleteTopics(ctx, st.work.In(), st.work.Compacted(), st.work.Out()))
	}
	errs = append(errs, unmountDisk(filepath.Join(st.dir, "disk")))
	if failed && st.suite.keep {
		fmt.Fprintf(os.Stderr, "kept %s of %s seed %d\n", st.dir, st.run.Fault.Name(), st.run.Seed)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(st.dir))...)
}
