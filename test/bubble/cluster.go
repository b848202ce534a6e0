package bubble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager"
	"github.com/sluice-stream/sluice/operator/expression"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/taskmanager"
	"github.com/sluice-stream/sluice/web"
)

// jmHost is the host of the job manager, jmAddress where it listens.
const (
	jmHost    = "jm"
	jmAddress = jmHost + ":6123"
)

// Cluster is a job manager, task managers and a client in a bubble.
type Cluster struct {
	t          *testing.T
	dir        string
	Network    *Network
	Log        *Log
	Admin      *Admin
	Connectors *Connectors
	Jobs       pb.JobServiceClient
	// KeepEndedJobs is a setting of the job managers that are started next; 0: all.
	KeepEndedJobs int

	journal *journal
	logger  *slog.Logger
	conn    *grpc.ClientConn
	jm      *process
	disk    *disk // of the job manager that runs
	tms     map[string]*process
}

// process is something that runs until it is told to end.
type process struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func start(run func(ctx context.Context) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = run(ctx)
	}()
	return p
}

func (p *process) end() error {
	p.cancel()
	<-p.done
	return p.err
}

// Run runs f in a bubble with a cluster whose job manager has started. Everything ends in good order after f.
func Run(t *testing.T, f func(c *Cluster)) {
	t.Helper()
	t.Parallel() // bubbles share nothing but the disk
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := NewLog()
		c := &Cluster{
			t: t, dir: dir, Network: NewNetwork(), Log: log, Admin: &Admin{Log: log},
			Connectors: &Connectors{Log: log, BatchRecords: 10, Pace: 20 * time.Millisecond, AckDelay: 5 * time.Millisecond},
			journal:    &journal{}, tms: map[string]*process{},
		}
		c.logger = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), c.journal), &slog.HandlerOptions{Level: level()}))
		c.StartJobManager()
		var err error
		c.conn, err = grpc.NewClient("passthrough:///"+jmAddress, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(c.Network.From("client")), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
		if err != nil {
			t.Fatal(err)
		}
		c.Jobs = pb.NewJobServiceClient(c.conn)
		defer c.close()
		f(c)
	})
}

// level is that of the log of failed tests; SLUICE_TEST_LOG=debug shows more.
func level() slog.Level {
	l := slog.LevelInfo
	_ = l.UnmarshalText([]byte(os.Getenv("SLUICE_TEST_LOG"))) // stays info
	return l
}

func (c *Cluster) close() {
	for id := range c.tms {
		c.StopTaskManager(id)
	}
	if c.jm != nil {
		c.StopJobManager()
	}
	c.conn.Close()
	c.Log.Close()
}

// StartJobManager starts the job manager on its data directory.
func (c *Cluster) StartJobManager() {
	c.t.Helper()
	c.Network.Revive(jmHost)
	l, err := c.Network.Listen(jmAddress)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := jobmanager.DefaultConfig()
	disk := &disk{crashed: make(chan struct{}), die: func() {
		c.Admin.crashed.Store(true)
		c.Network.Kill(jmHost)
	}}
	c.disk, cfg.StoreHook, cfg.KeepEndedJobs = disk, disk.hook, c.KeepEndedJobs
	c.Admin.crashed.Store(false)
	cfg.DataDir, cfg.Logger, cfg.Dial = c.dir, c.logger.With("host", jmHost), c.Network.From(jmHost)
	m, err := jobmanager.Open(cfg, c.Admin, expression.Checker{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.jm = start(func(ctx context.Context) error { return errors.Join(m.Run(ctx, l), m.Close()) })
}

// StopJobManager ends the job manager in good order.
func (c *Cluster) StopJobManager() {
	c.t.Helper()
	if err := c.jm.end(); err != nil {
		c.t.Errorf("job manager: %v", err)
	}
	c.jm = nil
}

// KillJobManager takes the job manager off the network first, so that nobody hears a good-bye.
func (c *Cluster) KillJobManager() {
	c.t.Helper()
	c.Network.Kill(jmHost)
	c.StopJobManager()
}

// CrashJobManager ends the job manager like kill -9: nothing that it has begun takes effect any more.
func (c *Cluster) CrashJobManager() {
	c.t.Helper()
	c.disk.crash()
	_ = c.jm.end() // its store has broken down
	c.jm = nil
}

// AwaitCrash waits until the job manager has come to the point at which it is to crash.
func (c *Cluster) AwaitCrash(limit time.Duration) {
	c.t.Helper()
	select {
	case <-c.disk.crashed:
		c.CrashJobManager()
	case <-time.After(limit):
		c.t.Fatalf("the job manager did not come to the point of its crash within %s\n%s", limit, c.dump())
	}
}

// StartTaskManager starts a task manager on the host of its name.
func (c *Cluster) StartTaskManager(id string, slots int) {
	c.t.Helper()
	c.tms[id] = c.taskManager(id, id, slots)
	c.Await(5*time.Second, id+" is connected", func() bool { return c.TaskManager(id).State == "CONNECTED" })
}

func (c *Cluster) taskManager(host, id string, slots int) *process {
	c.t.Helper()
	c.Network.Revive(host)
	cfg := taskmanager.DefaultConfig()
	began := time.Now()
	cfg.JobManager, cfg.ID, cfg.Slots, cfg.DataListen = jmAddress, ident.WorkerID(id), slots, host+":0"
	cfg.WorkDir, cfg.Logger, cfg.Dial, cfg.Listen = filepath.Join(c.dir, "work"), c.logger.With("host", host), c.Network.From(host), c.Network.Listen
	cfg.Clock = func() time.Duration { return time.Since(began) }
	tm, err := taskmanager.New(cfg, c.Connectors.on(host), expression.Checker{})
	if err != nil {
		c.t.Fatal(err)
	}
	return start(func(ctx context.Context) error { return tm.Run(ctx, func(string) {}) })
}

// StopTaskManager ends a task manager in good order.
func (c *Cluster) StopTaskManager(id string) {
	c.t.Helper()
	if err := c.tms[id].end(); err != nil {
		c.t.Errorf("task manager %s: %v", id, err)
	}
	delete(c.tms, id)
}

// KillTaskManager resets its connections and closes its port, as the end of its process does.
func (c *Cluster) KillTaskManager(id string) {
	c.t.Helper()
	c.Network.Kill(id)
	c.StopTaskManager(id)
}

// Ctx bounds a call.
func (c *Cluster) Ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 30*time.Second)
}

// Submit submits a job.
func (c *Cluster) Submit(job *graph.Job) {
	c.t.Helper()
	ctx, cancel := c.Ctx()
	defer cancel()
	job.SetDefaults()
	if _, err := c.Jobs.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(job)}); err != nil {
		c.t.Fatalf("submit %s: %v", job.Name, err)
	}
}

// Cancel cancels a job.
func (c *Cluster) Cancel(name string) {
	c.t.Helper()
	ctx, cancel := c.Ctx()
	defer cancel()
	if _, err := c.Jobs.Cancel(ctx, &pb.CancelRequest{Job: name}); err != nil {
		c.t.Fatalf("cancel %s: %v", name, err)
	}
}

// Stop stops a job with a final checkpoint.
func (c *Cluster) Stop(name string, drain bool) {
	c.t.Helper()
	ctx, cancel := c.Ctx()
	defer cancel()
	if _, err := c.Jobs.Stop(ctx, &pb.StopRequest{Job: name, Drain: drain}); err != nil {
		c.t.Fatalf("stop %s: %v", name, err)
	}
}

// Job is the status of a job.
func (c *Cluster) Job(name string) web.Job {
	c.t.Helper()
	ctx, cancel := c.Ctx()
	defer cancel()
	resp, err := c.Jobs.Get(ctx, &pb.GetRequest{Job: name})
	if err != nil {
		c.t.Fatalf("get %s: %v", name, err)
	}
	return web.JobFromProto(resp.GetJob())
}

// TaskManager is the row of a task manager; empty if it is unknown.
func (c *Cluster) TaskManager(id string) web.TaskManager {
	c.t.Helper()
	ctx, cancel := c.Ctx()
	defer cancel()
	resp, err := c.Jobs.ListTaskManagers(ctx, &pb.ListTaskManagersRequest{})
	if err != nil {
		c.t.Fatalf("list task managers: %v", err)
	}
	for _, t := range resp.GetTaskManagers() {
		if t.GetId() == id {
			return web.TaskManagerFromProto(t)
		}
	}
	return web.TaskManager{}
}

// Await waits until what is so, and fails the test if that takes longer than limit. It returns how long it took.
func (c *Cluster) Await(limit time.Duration, what string, isSo func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for {
		if isSo() {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			c.t.Fatalf("not within %s: %s\n%s", limit, what, c.dump())
		}
		time.Sleep(min(max(time.Since(began)/20, 10*time.Millisecond), 250*time.Millisecond)) // each look costs calls
	}
}

// AwaitState waits for the state of a job.
func (c *Cluster) AwaitState(limit time.Duration, name, state string) time.Duration {
	c.t.Helper()
	return c.Await(limit, name+" is "+state, func() bool { return c.Job(name).State == state })
}

// AwaitCheckpoints waits until n more checkpoints of a job are complete, and returns the newest.
func (c *Cluster) AwaitCheckpoints(limit time.Duration, name string, n int64) web.Checkpoint {
	c.t.Helper()
	before := c.Job(name).Checkpoints.Completed
	c.Await(limit, fmt.Sprintf("%s has %d more checkpoints than %d", name, n, before), func() bool {
		return c.Job(name).Checkpoints.Completed >= before+n
	})
	return *c.Job(name).Checkpoints.Latest
}

// Logged counts the lines of all logs that hold text.
func (c *Cluster) Logged(text string) int { return strings.Count(c.journal.String(), text) }

// journal keeps what was logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write is io.Writer's.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// String is everything so far.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (c *Cluster) dump() string {
	ctx, cancel := c.Ctx()
	defer cancel()
	resp, err := c.Jobs.List(ctx, &pb.ListRequest{})
	if err != nil {
		return err.Error()
	}
	return resp.String()
}

// CountJob counts the records of the topic `in` by key into the topic `out`, which are made.
func (c *Cluster) CountJob(name string, parallelism int) *graph.Job {
	for _, topic := range []string{"in", "out"} {
		if c.Log.partitions(topic) == 0 {
			c.Log.Create(topic, 4)
		}
	}
	return &graph.Job{
		Name: name, Parallelism: parallelism,
		Checkpoint: graph.Checkpointing{Interval: 500 * time.Millisecond, Timeout: 10 * time.Second, Retain: 3, TolerableFailures: 5},
		Sources:    []graph.Source{{Name: "in", Kafka: &graph.KafkaSource{Topics: []string{"in"}, Startup: graph.Startup{Mode: graph.StartEarliest}, Properties: map[string]string{"group.id": name}}}},
		Operators:  []graph.Operator{{Name: "count", From: []string{"in"}, KeyBy: "key", Count: true}},
		Sinks:      []graph.Sink{{Name: "out", From: []string{"count"}, Kafka: &graph.KafkaSink{Topic: "out"}}},
	}
}

// BoundedCountJob is a CountJob that ends where the topic ends now.
func (c *Cluster) BoundedCountJob(name string, parallelism int) *graph.Job {
	job := c.CountJob(name, parallelism)
	job.Sources[0].Kafka.Bounded.Mode = graph.BoundLatest
	return job
}

// ExactlyOnce makes the sink of a job transactional.
func ExactlyOnce(job *graph.Job) *graph.Job {
	job.Sinks[0].Kafka.Guarantee = graph.ExactlyOnce
	job.Sinks[0].Kafka.Properties = map[string]string{"bootstrap.servers": "log:9092"}
	return job
}

// CheckExact fails the test unless every key was counted to the number of its records in `in`, each number
// once and in order, and no transaction is open.
func (c *Cluster) CheckExact() {
	c.t.Helper()
	c.CheckNothingTwice()
	c.CheckCounts()
}

// CheckNothingTwice fails the test if a count is missing, comes twice or too late, or a transaction stays open.
func (c *Cluster) CheckNothingTwice() {
	c.t.Helper()
	c.Await(5*time.Second, "no transaction is open", func() bool { return len(c.Log.Open()) == 0 })
	if _, err := c.Log.ExactCounts("out"); err != nil {
		c.t.Fatal(err)
	}
}

// CheckCounts fails the test unless every key was counted to the number of its records in `in`.
func (c *Cluster) CheckCounts() {
	c.t.Helper()
	want := map[string]int{}
	for _, m := range c.Log.All("in") {
		want[m.Key]++
	}
	got, err := c.Log.Counts("out")
	if err != nil {
		c.t.Fatal(err)
	}
	var wrong []string
	for key, n := range want {
		if got[key] != n {
			wrong = append(wrong, fmt.Sprintf("%s: %d of %d", key, got[key], n))
		}
	}
	if slices.Sort(wrong); len(wrong) > 0 || len(got) != len(want) {
		c.t.Fatalf("counts differ for %d of %d keys (%d in the output): %v", len(wrong), len(want), len(got), wrong[:min(len(wrong), 10)])
	}
}
