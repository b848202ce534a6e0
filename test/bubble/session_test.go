package bubble

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// TestSecondTaskManagerOfAnID refuses the newcomer, which gives up and says why; the first one is left alone.
func TestSecondTaskManagerOfAnID(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.CountJob("count", 2)
		c.Log.Fill("in", 1000, 10)
		c.Submit(c.CountJob("count", 2))
		c.AwaitState(5*time.Second, "count", "RUNNING")
		since := c.TaskManager("tm-1").ConnectedAt
		second := c.taskManager("other", "tm-1", 2)
		select {
		case <-second.done:
		case <-time.After(time.Minute):
			t.Fatal("the second one still tries after a minute")
		}
		if err := second.end(); err == nil || !strings.Contains(err.Error(), `task manager id "tm-1"`) || !strings.Contains(err.Error(), "tm-1:7001") {
			t.Errorf("the second one ended with %v", err)
		}
		if c.Logged("task manager refused") == 0 {
			t.Error("the job manager did not log the refusal")
		}
		if tm := c.TaskManager("tm-1"); tm.State != "CONNECTED" || !tm.ConnectedAt.Equal(*since) || c.Job("count").Attempt != 1 {
			t.Errorf("the first one was disturbed: %+v", tm)
		}
	})
}

// connect opens a session stream by hand and registers.
func (c *Cluster) connect(ctx context.Context, r *pb.Register) (pb.SessionService_ConnectClient, *pb.FromJobManager, error) {
	stream, err := pb.NewSessionServiceClient(c.conn).Connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	_ = stream.Send(&pb.FromTaskManager{Message: &pb.FromTaskManager_Register{Register: r}}) // Recv says why
	m, err := stream.Recv()
	return stream, m, err
}

func TestRegisterIsRefused(t *testing.T) {
	good := func() *pb.Register {
		return &pb.Register{Worker: "w", Incarnation: "i", Slots: 1, DataAddress: "w:1", ProtocolVersion: wire.ProtocolVersion}
	}
	tests := []struct {
		name   string
		change func(r *pb.Register)
		code   codes.Code
		text   string
	}{
		{"other protocol version", func(r *pb.Register) { r.ProtocolVersion = 99 }, codes.FailedPrecondition,
			`task manager "w" speaks protocol version 99, this job manager speaks 3`},
		{"no version", func(r *pb.Register) { r.ProtocolVersion = 0 }, codes.FailedPrecondition, "version 0"},
		{"bad id", func(r *pb.Register) { r.Worker = "a/b" }, codes.InvalidArgument, `"a/b"`},
		{"no slots", func(r *pb.Register) { r.Slots = 0 }, codes.InvalidArgument, "offers 0 slots: want 1 to 1024"},
		{"too many slots", func(r *pb.Register) { r.Slots = 1025 }, codes.InvalidArgument, "offers 1025 slots"},
		{"no incarnation", func(r *pb.Register) { r.Incarnation = "" }, codes.InvalidArgument, "incarnation"},
		{"no data address", func(r *pb.Register) { r.DataAddress = "" }, codes.InvalidArgument, "data address"},
		{"unknown session", func(r *pb.Register) { r.Session = "s" }, codes.NotFound, `session "s" of task manager "w"`},
	}
	Run(t, func(c *Cluster) {
		for _, test := range tests {
			ctx, cancel := c.Ctx()
			r := good()
			test.change(r)
			_, _, err := c.connect(ctx, r)
			cancel()
			if status.Code(err) != test.code || !strings.Contains(status.Convert(err).Message(), test.text) {
				t.Errorf("%s: %v, want %s with %q", test.name, err, test.code, test.text)
			}
		}
		if tm := c.TaskManager("w"); tm.ID != "" {
			t.Errorf("a refused one is listed: %+v", tm)
		}
	})
}

// TestSilentPeer opens streams that say nothing: they end by themselves.
func TestSilentPeer(t *testing.T) {
	Run(t, func(c *Cluster) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		stream, err := pb.NewSessionServiceClient(c.conn).Connect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded || time.Since(began) > 11*time.Second {
			t.Errorf("without Register: %v after %s", err, time.Since(began))
		}
		stream, _, err = c.connect(ctx, &pb.Register{Worker: "w", Incarnation: "i", Slots: 1, DataAddress: "w:1", ProtocolVersion: wire.ProtocolVersion})
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || time.Since(began) > 6*time.Second {
			t.Errorf("without heartbeats: %v after %s", err, time.Since(began))
		}
		c.Await(time.Second, "it counts as lost", func() bool { return c.TaskManager("w").State == "LOST" })
	})
}

// TestIdleConnectionsStay idles for ten minutes, with and without a job whose exchange has nothing to move:
// keepalive must not be taken for an attack (too_many_pings).
func TestIdleConnectionsStay(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 1)
		c.StartTaskManager("tm-2", 1)
		since := *c.TaskManager("tm-1").ConnectedAt
		time.Sleep(10 * time.Minute)
		job := c.CountJob("count", 2)
		job.Checkpoint.Interval = 0
		c.Submit(job)
		c.AwaitState(5*time.Second, "count", "RUNNING")
		time.Sleep(10 * time.Minute)
		if at := c.TaskManager("tm-1").ConnectedAt; !at.Equal(since) || c.Job("count").Attempt != 1 || c.Job("count").State != "RUNNING" {
			t.Errorf("connected since %s, first %s; job %+v", at, since, c.Job("count"))
		}
		if n := c.Logged("level=WARN") + c.Logged("level=ERROR") + c.Logged("stream of task manager ended"); n != 0 {
			t.Errorf("%d lines tell of trouble", n)
		}
	})
}

// TestHungTaskManagerIsLost sends more to a task manager that does not read than fits under way.
func TestHungTaskManagerIsLost(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.Network.Isolate("tm-1")
		for _, name := range []string{"a", "b"} {
			job := c.CountJob(name, 1)
			job.Sinks[0].Kafka.Properties = map[string]string{"large": strings.Repeat("x", 300<<10)}
			c.Submit(job)
		}
		began := time.Now()
		c.Await(20*time.Second, "tm-1 is lost", func() bool { return c.TaskManager("tm-1").State == "LOST" })
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("lost after %s", took)
		}
		c.AwaitState(5*time.Second, "a", "WAITING_FOR_SLOTS")
		c.Network.Heal("tm-1")
		c.AwaitState(10*time.Second, "a", "RUNNING")
		c.AwaitState(10*time.Second, "b", "RUNNING")
	})
}

// TestFastRestart starts task managers anew under their old ids before anybody has noticed their end.
func TestFastRestart(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.StartTaskManager("tm-2", 2)
		c.CountJob("count", 4)
		c.Log.Fill("in", 24_000, 100)
		c.Submit(c.BoundedCountJob("count", 4))
		for range 3 {
			attempt := c.Job("count").Attempt
			c.AwaitCheckpoints(20*time.Second, "count", 2)
			for _, id := range []string{"tm-1", "tm-2"} {
				c.Network.Kill(id)
			}
			for _, id := range []string{"tm-1", "tm-2"} {
				c.StopTaskManager(id)
				c.StartTaskManager(id, 2)
			}
			c.Await(10*time.Second, "the next attempt runs", func() bool { return c.Job("count").Attempt > attempt && c.Job("count").State == "RUNNING" })
			if got := c.Job("count").Attempt; got > attempt+2 {
				t.Errorf("attempt %d after %d", got, attempt)
			}
		}
		c.AwaitState(time.Minute, "count", "FINISHED")
		c.CheckCounts()
	})
}

// TestSilentConnectionsDoNotDelayTheEnd opens connections that never say anything, as scanners and health checks
// do: both managers end in time all the same.
func TestSilentConnectionsDoNotDelayTheEnd(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 1)
		for _, address := range []string{jmAddress, c.TaskManager("tm-1").DataAddress} {
			conn, err := c.Network.From("scanner")(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		time.Sleep(time.Millisecond)
		began := time.Now()
		c.StopTaskManager("tm-1")
		if took := time.Since(began); took > 9*time.Second {
			t.Errorf("the task manager ended after %s", took)
		}
		began = time.Now()
		c.StopJobManager()
		if took := time.Since(began); took > 9*time.Second {
			t.Errorf("the job manager ended after %s", took)
		}
	})
}
