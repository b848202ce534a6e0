// Package demo is `sluice demo`: the main job of Sluice with real processes, some of which are killed, and
// an independent judgement of every record that came out.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/web"
)

// Kill says what is killed as kill -9 does, in the middle of the job.
type Kill string

// What can be killed.
const (
	KillTaskManager Kill = "taskmanager" // one of two; the job waits for slots until there is another
	KillJobManager  Kill = "jobmanager"  // and started again at once, on the same data directory and port
	KillBoth        Kill = "both"        // one task manager and the job manager
	KillNone        Kill = "none"
)

// Kills lists them all.
func Kills() []string {
	return []string{string(KillTaskManager), string(KillJobManager), string(KillBoth), string(KillNone)}
}

// ParseKill reads one of Kills.
func ParseKill(text string) (Kill, error) {
	if !slices.Contains(Kills(), text) {
		return "", fmt.Errorf("%.40q: want %s", text, strings.Join(Kills(), ", "))
	}
	return Kill(text), nil
}

func (k Kill) taskManager() bool { return k == KillTaskManager || k == KillBoth }
func (k Kill) jobManager() bool  { return k == KillJobManager || k == KillBoth }

// Options are the flags of sluice demo.
type Options struct {
	Records int
	Kill    Kill
	// BootstrapServers is host:port of brokers, separated by commas. Empty: an embedded one.
	BootstrapServers string
	// Submit hands the job file to the job manager at that address, Status asks it for the job, Checkpoints
	// for those of the job that it keeps.
	Submit      func(ctx context.Context, jobManager, jobFile string) (jobID string, err error)
	Status      func(ctx context.Context, jobManager, jobID string) (web.Job, error)
	Checkpoints func(ctx context.Context, jobManager, jobID string) ([]web.Checkpoint, error)
	Show        Progress
}

// Progress shows what happens. Say is for what is worth a line, Tick for the state of now.
type Progress interface {
	Say(format string, args ...any)
	Tick(text string)
}

// Result is the outcome; its JSON is that of `sluice demo -o json`. Output is what a read_committed reader
// sees. New output is what comes of input that the restored checkpoint did not cover.
type Result struct {
	RecordsIn  int `json:"recordsIn"`
	Expected   int `json:"expected"`
	RecordsOut int `json:"recordsOut"`
	Lost       int `json:"lost"`
	Duplicates int `json:"duplicates"`
	OutOfOrder int `json:"outOfOrder"` // counts of a key that come behind a higher one
	// OpenOffsets is how far the last stable offsets stay behind the high watermarks after the job's end.
	OpenOffsets        int64  `json:"openOffsets"`
	Killed             Kill   `json:"killed"`
	Restarts           int32  `json:"restarts"`
	RestoredCheckpoint uint64 `json:"restoredCheckpoint"`
	// NoticedMs is from the kill until the job was seen WAITING_FOR_SLOTS.
	NoticedMs int64 `json:"noticedMs"`
	// JobManagerMs is from the kill until the job manager served again.
	JobManagerMs      int64 `json:"jobManagerMs"`
	WaitingForSlotsMs int64 `json:"waitingForSlotsMs"`
	// RecoverMs is from the moment when all processes were there again until the first new output.
	RecoverMs int64 `json:"recoverMs"`
	// DowntimeMs is from the kill until the first new output.
	DowntimeMs       int64  `json:"downtimeMs"`
	RecordsPerSecond int64  `json:"recordsPerSecond"`
	ElapsedMs        int64  `json:"elapsedMs"`
	Guarantee        string `json:"guarantee"`
	Broker           string `json:"broker"`
	OK               bool   `json:"ok"`
	Problem          string `json:"problem,omitempty"`
}

// MinRecords is the least that can be generated; the number is rounded down to a multiple of it, so that
// every key and partition gets the same.
const MinRecords = partitions * keys * 10

const (
	parallelism    = 4
	slotsPerWorker = 2
	stepTimeout    = 60 * time.Second
	pollEvery      = 20 * time.Millisecond
)

// run is one demonstration.
type run struct {
	opts    Options
	broker  *broker
	load    *workload
	dir     string
	daemons *launcher
	jm      *process
	jobID   string
	output  *reader
	// release lets the input flow as fast as it goes.
	release  func()
	started  time.Time
	killedAt time.Time
	attempt  uint64    // of the job before the kill
	backAt   time.Time // when all processes were there again
	result   Result
}

// Run demonstrates. The result is complete unless err is non-nil; a wrong output is not an error but a
// result that is not OK. Nothing is left behind, whatever happens.
func Run(ctx context.Context, opts Options) (res Result, err error) {
	r := &run{opts: opts, started: time.Now(), load: newWorkload(opts.Records - opts.Records%MinRecords), output: newReader()}
	if r.dir, err = os.MkdirTemp("", "sluice-demo-"); err != nil {
		return res, fmt.Errorf("make a working directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if r.broker, err = openBroker(ctx, opts.BootstrapServers); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, r.broker.close()) }()
	if r.daemons, err = newLauncher(); err != nil {
		return res, err
	}
	defer r.daemons.close()
	g, playCtx := errgroup.WithContext(ctx)
	besideCtx, stop := context.WithCancel(playCtx)
	released := make(chan struct{})
	r.release = func() { close(released) }
	g.Go(func() error { return r.output.run(besideCtx, r.broker) })
	g.Go(func() error { return r.load.feed(besideCtx, r.broker, released) })
	err = r.play(playCtx)
	stop()
	if err = errors.Join(err, g.Wait()); err != nil {
		return res, err
	}
	return r.result, nil
}

func (r *run) play(ctx context.Context) error {
	for _, step := range []func(context.Context) error{r.start, r.kill, r.recover, r.finish, r.verify} {
		stepCtx, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("a step of the demo took longer than %s", stepTimeout))
		err := step(stepCtx)
		cause := context.Cause(stepCtx)
		cancel()
		if err != nil && cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		if err != nil {
			return r.withLogs(err)
		}
	}
	return nil
}

// withLogs adds the last lines of the job manager's log to an error.
func (r *run) withLogs(err error) error {
	if r.jm == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w\nlast lines of the job manager's log:\n%s", err, r.jm.stderr)
}
