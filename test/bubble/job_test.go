package bubble

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/graph"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/web"
)

func TestBoundedJobFinishes(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.StartTaskManager("tm-2", 2)
		c.CountJob("count", 4)
		c.Log.Fill("in", 4000, 50)
		c.Submit(c.BoundedCountJob("count", 4))
		c.AwaitState(10*time.Second, "count", "FINISHED")
		c.CheckCounts()
		j := c.Job("count")
		if j.Attempt != 1 || j.Restarts != 0 || j.Failure != nil || j.Checkpoints.Failed != 0 || j.EndedAt == nil {
			t.Errorf("the job %+v", j)
		}
		latest := j.Checkpoints.Latest
		if !latest.Final || !latest.Committed {
			t.Errorf("the last checkpoint %+v", latest)
		}
		for p, next := range latest.Offsets["in"]["in"] {
			var partition int32
			fmt.Sscan(p, &partition)
			if end := c.Log.End("in", partition); next != end {
				t.Errorf("partition %s ended at %d of %d", p, next, end)
			}
		}
		if published := c.Admin.Published(); len(published) == 0 || uint64(slices.Max(published)) != latest.ID {
			t.Errorf("published %v, latest %d", published, latest.ID)
		}
		if free := c.TaskManager("tm-1").FreeSlots; free != 2 {
			t.Errorf("%d slots of tm-1 are free", free)
		}
	})
}

// TestRetentionKeepsPace: dropping old checkpoints costs no write for each checkpoint, and all of them are dropped in the end.
func TestRetentionKeepsPace(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 1)
		job := c.CountJob("count", 1)
		job.Checkpoint.Interval = 50 * time.Millisecond
		c.Submit(job)
		c.AwaitState(10*time.Second, "count", "RUNNING")
		before, drawn := c.disk.written(), c.Job("count").Checkpoints.Completed
		time.Sleep(10 * time.Second)
		writes, checkpoints := c.disk.written()-before, int(c.Job("count").Checkpoints.Completed-drawn)
		if checkpoints < 100 || writes > checkpoints+checkpoints/3 {
			t.Errorf("%d checkpoints took %d durable writes", checkpoints, writes)
		}
		c.Cancel("count")
		c.AwaitState(10*time.Second, "count", "CANCELED")
		time.Sleep(3 * time.Second)
		list, err := c.Jobs.ListCheckpoints(context.Background(), &pb.ListCheckpointsRequest{Job: "count"})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Checkpoints) != job.Checkpoint.Retain {
			t.Errorf("%d checkpoints are kept, want %d", len(list.Checkpoints), job.Checkpoint.Retain)
		}
	})
}

// TestSourcesKnowTheirSinks: a source is told of the sinks that alone take what it reads; where an operator looks into the
// records, or until does, it is told of none.
func TestSourcesKnowTheirSinks(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 1)
		for _, test := range []struct {
			source string
			change func(*graph.Job)
			want   int
		}{
			{"copied", func(j *graph.Job) { j.Operators, j.Sinks[0].From = nil, []string{"copied"} }, 1},
			{"counted", func(j *graph.Job) { j.Operators[0].From = []string{"counted"} }, 0},
			{"ended", func(j *graph.Job) {
				j.Operators, j.Sinks[0].From, j.Sources[0].Kafka.Until = nil, []string{"ended"}, "false"
			}, 0},
		} {
			job := c.CountJob("job-"+test.source, 1)
			job.Sources[0].Name = test.source
			test.change(job)
			c.Submit(job)
			c.AwaitState(10*time.Second, job.Name, "RUNNING")
			if got := c.Connectors.Alone(test.source); got != test.want {
				t.Errorf("%s: %d sinks, want %d", test.source, got, test.want)
			}
			c.Cancel(job.Name)
			c.AwaitState(10*time.Second, job.Name, "CANCELED")
		}
	})
}

// TestStartOffsetsAreCheckpointZero: where a job begins is resolved once, when it is submitted, and survives the job
// manager (DESIGN rule 2). What comes before its first deployment is read.
func TestStartOffsetsAreCheckpointZero(t *testing.T) {
	Run(t, func(c *Cluster) {
		job := c.CountJob("count", 2)
		job.Sources[0].Kafka.Startup.Mode = graph.StartLatest
		c.Log.Fill("in", 500, 50)
		c.Submit(job)
		c.AwaitState(time.Second, "count", "WAITING_FOR_SLOTS")
		c.Log.Fill("in", 1000, 50)
		c.CrashJobManager()
		c.StartJobManager()
		c.StartTaskManager("tm-1", 2)
		c.AwaitCheckpoints(20*time.Second, "count", 3)
		time.Sleep(10 * time.Second)
		if n := c.read(); n != 1000 {
			t.Errorf("%d records were read, want the 1000 that came after the submission", n)
		}
	})
}

// TestStopAndGoOn stops a job and submits it again from its final checkpoint: nothing is lost or repeated.
func TestStopAndGoOn(t *testing.T) {
	for _, drain := range []bool{false, true} {
		t.Run(fmt.Sprintf("drain %v", drain), func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.StartTaskManager("tm-1", 2)
				c.StartTaskManager("tm-2", 2)
				c.CountJob("count", 3)
				c.Log.Fill("in", 8000, 100)
				c.Submit(c.CountJob("count", 3))
				c.AwaitCheckpoints(10*time.Second, "count", 2)
				c.Stop("count", drain)
				c.AwaitState(10*time.Second, "count", "STOPPED")
				j := c.Job("count")
				final := j.Checkpoints.Latest
				read := int64(0)
				for _, next := range final.Offsets["in"]["in"] {
					read += next
				}
				if n := int64(len(c.Log.All("out"))); !final.Final || n != read || read == 8000 {
					t.Fatalf("final %v: %d records were read of 8000 and %d written", final.Final, read, n)
				}
				ctx, cancel := c.Ctx()
				defer cancel()
				again := c.BoundedCountJob("count", 2)
				again.SetDefaults()
				_, err := c.Jobs.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(again), FromCheckpoint: fmt.Sprintf("%s/%d", j.ID, final.ID)})
				if err != nil {
					t.Fatal(err)
				}
				c.AwaitState(time.Minute, "count", "FINISHED")
				c.CheckCounts()
				if n := len(c.Log.All("out")); n != 8000 {
					t.Errorf("%d records were written for 8000", n)
				}
			})
		})
	}
}

// TestStopSurvivesLoss loses a task manager, then the job manager, while a job stops: the stop is not forgotten.
func TestStopSurvivesLoss(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.StartTaskManager("tm-2", 2)
		c.CountJob("count", 4)
		c.Log.Fill("in", 20_000, 100)
		c.Submit(c.CountJob("count", 4))
		c.AwaitCheckpoints(10*time.Second, "count", 2)
		c.Log.HoldAcks(true)
		c.Stop("count", false)
		c.AwaitState(5*time.Second, "count", "STOPPING")
		c.KillTaskManager("tm-2")
		time.Sleep(3 * time.Second)
		c.KillJobManager()
		c.Log.HoldAcks(false)
		c.StartJobManager()
		c.StartTaskManager("tm-2", 2)
		c.AwaitState(20*time.Second, "count", "STOPPED")
		if !c.Job("count").Checkpoints.Latest.Final {
			t.Error("the last checkpoint is not final")
		}
		if _, err := c.Log.Counts("out"); err != nil {
			t.Error(err)
		}
	})
}

func TestCancel(t *testing.T) {
	tests := []struct {
		name, state string
		slots       int
	}{{"waiting", "WAITING_FOR_SLOTS", 2}, {"running", "RUNNING", 4}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.StartTaskManager("tm-1", test.slots)
				c.CountJob("count", 4)
				c.Log.Fill("in", 1000, 10)
				c.Submit(c.CountJob("count", 4))
				c.AwaitState(5*time.Second, "count", test.state)
				time.Sleep(10 * time.Second)
				c.Cancel("count")
				if took := c.AwaitState(10*time.Second, "count", "CANCELED"); took > time.Second {
					t.Errorf("canceled after %s", took)
				}
				if n := c.Connectors.Running("tm-1"); n != 0 {
					t.Errorf("%d sources and sinks still run", n)
				}
				if free := c.TaskManager("tm-1").FreeSlots; int(free) != test.slots {
					t.Errorf("%d slots are free", free)
				}
				ctx, cancel := c.Ctx()
				defer cancel()
				if _, err := c.Jobs.Cancel(ctx, &pb.CancelRequest{Job: "count"}); status.Code(err) != codes.FailedPrecondition {
					t.Errorf("a second cancel: %v", err)
				}
				if _, err := c.Jobs.Cancel(ctx, &pb.CancelRequest{Job: "other"}); status.Code(err) != codes.NotFound {
					t.Errorf("cancel of an unknown job: %v", err)
				}
			})
		})
	}
}

// TestSlotsGoInSubmitOrder has two jobs wait; the one that came first is served first, and a third that is too
// large for the cluster holds nobody up.
func TestSlotsGoInSubmitOrder(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.CountJob("a", 2)
		c.Log.Fill("in", 1000, 10)
		c.Submit(c.CountJob("huge", 100))
		c.Submit(c.CountJob("a", 2))
		c.Submit(c.CountJob("b", 2))
		c.StartTaskManager("tm-1", 2)
		c.AwaitState(5*time.Second, "a", "RUNNING")
		time.Sleep(time.Minute)
		if b := c.Job("b"); b.State != "WAITING_FOR_SLOTS" || !strings.Contains(b.Slots.Explain, "need 2, have 0") {
			t.Errorf("b is %s: %s", b.State, b.Slots.Explain)
		}
		if h := c.Job("huge"); !strings.Contains(h.Slots.Explain, "all task managers together have 2") {
			t.Errorf("huge is %s: %s", h.State, h.Slots.Explain)
		}
		c.Stop("a", false)
		if took := c.AwaitState(5*time.Second, "b", "RUNNING"); took > time.Second {
			t.Errorf("b ran after %s", took)
		}
	})
}

func TestNameInUse(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.Submit(c.CountJob("count", 1))
		ctx, cancel := c.Ctx()
		defer cancel()
		job := c.CountJob("count", 1)
		job.SetDefaults()
		if _, err := c.Jobs.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(job)}); status.Code(err) != codes.AlreadyExists {
			t.Errorf("a second job of the name: %v", err)
		}
		c.Cancel("count")
		c.AwaitState(5*time.Second, "count", "CANCELED")
		c.Submit(c.CountJob("count", 1))
	})
}

// fillLarge makes state of several hundred KiB per subtask: 8000 keys of 300 bytes.
func (c *Cluster) fillLarge() {
	messages := make([]Message, 16_000)
	for i := range messages {
		messages[i] = Message{Key: fmt.Sprintf("%0300d", i%8000), Value: "x"}
	}
	c.Log.Append("in", messages...)
}

func (c *Cluster) blobs(job web.Job) []os.DirEntry {
	files, err := os.ReadDir(filepath.Join(c.dir, "blobs", job.ID))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return files
}

// TestLargeStateGoesThroughFiles restores state that is too large for acks.
func TestLargeStateGoesThroughFiles(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.StartTaskManager("tm-2", 2)
		c.Connectors.BatchRecords = 100
		job := c.CountJob("count", 4)
		c.fillLarge()
		c.Submit(job)
		c.Await(30*time.Second, "state is in files", func() bool { return len(c.blobs(c.Job("count"))) > 0 })
		c.AwaitCheckpoints(10*time.Second, "count", 1)
		newest := c.Job("count").Checkpoints.Latest
		c.KillTaskManager("tm-1")
		c.StartTaskManager("tm-3", 2)
		c.AwaitState(10*time.Second, "count", "RUNNING")
		if j := c.Job("count"); j.Checkpoints.Restored < newest.ID {
			t.Errorf("restored %d, %d was complete", j.Checkpoints.Restored, newest.ID)
		}
		c.Await(30*time.Second, "everything is read", func() bool { return c.sum() == 16_000 })
		c.Stop("count", true)
		c.AwaitState(10*time.Second, "count", "STOPPED")
		c.CheckCounts()
		if n := len(c.blobs(c.Job("count"))); n == 0 || n > 3*4 {
			t.Errorf("%d state files are left of 3 checkpoints", n)
		}
	})
}

// sum adds the largest counts of all keys.
func (c *Cluster) sum() int {
	counts, err := c.Log.Counts("out")
	if err != nil {
		return -1 // a restarted attempt has not caught up
	}
	n := 0
	for _, k := range counts {
		n += k
	}
	return n
}

// TestStateFilesCannotBeWritten lets checkpoints fail for a while: the job runs on, and the loss of a task
// manager afterwards loses nothing.
func TestStateFilesCannotBeWritten(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.StartTaskManager("tm-2", 2)
		c.Connectors.BatchRecords = 100
		job := c.CountJob("count", 4)
		job.Checkpoint.TolerableFailures = 1000
		c.Submit(job)
		c.AwaitCheckpoints(5*time.Second, "count", 1)
		dir := filepath.Join(c.dir, "blobs", c.Job("count").ID)
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // in the way of the directory, also for root
			t.Fatal(err)
		}
		c.fillLarge()
		c.Await(time.Minute, "checkpoints fail", func() bool { return c.Job("count").Checkpoints.Failed >= 3 })
		if j := c.Job("count"); j.State != "RUNNING" || j.Attempt != 1 {
			t.Errorf("the job is %s in attempt %d", j.State, j.Attempt)
		}
		before := c.Job("count").Checkpoints.Latest.ID
		c.KillTaskManager("tm-1")
		c.StartTaskManager("tm-3", 2)
		c.Await(10*time.Second, "attempt 2 runs", func() bool { return c.Job("count").Attempt == 2 && c.Job("count").State == "RUNNING" })
		if got := c.Job("count").Checkpoints.Restored; got != before {
			t.Errorf("restored %d, the newest was %d", got, before)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		c.Await(time.Minute, "checkpoints complete again", func() bool { return c.Job("count").Checkpoints.Latest.ID > before })
		c.Await(time.Minute, "everything is read", func() bool { return c.sum() == 16_000 })
		c.Stop("count", true)
		c.AwaitState(time.Minute, "count", "STOPPED")
		c.CheckCounts()
	})
}

// TestCheckpointsFailTooOften gives an attempt up, and then the job, whose last failure says why.
func TestCheckpointsFailTooOften(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		job := c.CountJob("count", 2)
		job.Checkpoint.Timeout, job.Checkpoint.TolerableFailures = time.Second, 1
		job.Restart = graph.Restart{Strategy: graph.FixedDelay, Initial: time.Second, Max: time.Second, Attempts: 2, HealthyAfter: time.Hour}
		c.Log.HoldAcks(true)
		c.Submit(job)
		c.AwaitState(5*time.Minute, "count", "FAILED")
		j := c.Job("count")
		if j.Restarts != 2 || j.Failure == nil || !strings.Contains(j.Failure.Message, "expired after 1s: no ack from") {
			t.Errorf("restarts %d, failure %+v", j.Restarts, j.Failure)
		}
		if free := c.TaskManager("tm-1").FreeSlots; free != 2 {
			t.Errorf("%d slots are free", free)
		}
	})
}
