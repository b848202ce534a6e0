package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// fakeJobManager answers the streams of one session as answer says.
type fakeJobManager struct {
	pb.SessionServiceClient
	// answer gets each upward message and says what comes down, nil: nothing.
	answer func(up *pb.FromTaskManager) (*pb.FromJobManager, error)
}

type fakeStream struct {
	grpc.ClientStream
	ctx    context.Context
	jm     *fakeJobManager
	down   chan *pb.FromJobManager
	failed chan error
}

func (f *fakeJobManager) Connect(ctx context.Context, _ ...grpc.CallOption) (sessionStream, error) {
	return &fakeStream{ctx: ctx, jm: f, down: make(chan *pb.FromJobManager, 100), failed: make(chan error, 1)}, nil
}

func (s *fakeStream) Send(m *pb.FromTaskManager) error {
	down, err := s.jm.answer(m)
	if err != nil {
		s.failed <- err
	}
	if down != nil {
		s.down <- down
	}
	return nil
}

func (s *fakeStream) Recv() (*pb.FromJobManager, error) {
	select {
	case m := <-s.down:
		return m, nil
	case err := <-s.failed:
		return nil, err
	case <-s.ctx.Done():
		return nil, status.FromContextError(s.ctx.Err()).Err()
	}
}

func welcomeOf(session string, resumed bool, interval, timeout time.Duration) *pb.FromJobManager {
	return &pb.FromJobManager{Message: &pb.FromJobManager_Welcome{Welcome: &pb.Welcome{
		Session: session, Resumed: resumed, HeartbeatIntervalMs: interval.Milliseconds(), HeartbeatTimeoutMs: timeout.Milliseconds(),
	}}}
}

// runSession runs a session for a while and returns when it was reset, counted from its begin. asleep, which may
// change, is how long the machine has been suspended.
func runSession(t *testing.T, jm *fakeJobManager, asleep *time.Duration, limit time.Duration) (resets []time.Duration) {
	t.Helper()
	began := time.Now()
	s := &session{
		client: jm, outbox: newOutbox(), log: slog.New(slog.DiscardHandler),
		lease:    newLease(func() time.Duration { return time.Since(began) + *asleep }),
		register: func() *pb.Register { return &pb.Register{Worker: "w"} },
		handle:   func(context.Context, *pb.FromJobManager) {}, counters: func() []subtaskCounters { return nil },
		reset:   func(context.Context, string) { resets = append(resets, time.Since(began).Round(time.Millisecond)) },
		onReady: func(*pb.Welcome) {},
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := s.run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the session ended with %v", err)
	}
	return resets
}

// TestLeaseEndsSubtasks lets the job manager fall silent in different ways: the subtasks end when the lease does.
func TestLeaseEndsSubtasks(t *testing.T) {
	const interval, timeout = 10 * time.Second, 30 * time.Second
	tests := []struct {
		name string
		// beat is what the third heartbeat, 30 s after the begin, brings about.
		beat func() (*pb.FromJobManager, error)
	}{
		{"no answer to heartbeats", func() (*pb.FromJobManager, error) { return nil, nil }},
		{"stream broken, no answer to the registration", func() (*pb.FromJobManager, error) { return nil, errors.New("reset") }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				beats := 0
				jm := &fakeJobManager{answer: func(up *pb.FromTaskManager) (*pb.FromJobManager, error) {
					if up.GetRegister() != nil {
						if beats > 0 {
							return nil, nil
						}
						return welcomeOf("s", false, interval, timeout), nil
					}
					if beats++; beats < 3 {
						return &pb.FromJobManager{Message: &pb.FromJobManager_Heartbeat{Heartbeat: &pb.HeartbeatAnswer{Sequence: up.GetHeartbeat().GetSequence()}}}, nil
					}
					return test.beat()
				}}
				asleep := time.Duration(0)
				resets := runSession(t, jm, &asleep, 2*time.Minute)
				// The newest answered heartbeat was sent after 20 s.
				if len(resets) != 1 || resets[0] != 50*time.Second {
					t.Errorf("reset at %v, want at 50s", resets)
				}
			})
		})
	}
}

// TestSuspendedMachine is asleep for longer than its lease while it registers again. The job manager resumes the
// session; the task manager must not: others may run its subtasks by now.
func TestSuspendedMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		asleep := time.Duration(0)
		jm := &fakeJobManager{answer: func(up *pb.FromTaskManager) (*pb.FromJobManager, error) {
			r := up.GetRegister()
			if r == nil {
				if len(asked) == 1 {
					return nil, errors.New("reset")
				}
				return &pb.FromJobManager{Message: &pb.FromJobManager_Heartbeat{Heartbeat: &pb.HeartbeatAnswer{Sequence: up.GetHeartbeat().GetSequence()}}}, nil
			}
			if asked = append(asked, r.GetSession()); len(asked) == 2 {
				asleep = time.Hour
			}
			return welcomeOf("s"+string(rune('0'+len(asked))), r.GetSession() != "", time.Second, 5*time.Second), nil
		}}
		resets := runSession(t, jm, &asleep, 20*time.Second)
		if len(resets) != 1 || len(asked) != 3 || asked[1] != "s1" || asked[2] != "" {
			t.Errorf("resets at %v; asked to resume %q", resets, asked)
		}
	})
}

// TestRefusals is which refusals end a task manager and which it tries again after.
func TestRefusals(t *testing.T) {
	tests := []struct {
		code codes.Code
		end  time.Duration // 0: never
	}{
		{codes.FailedPrecondition, time.Millisecond}, {codes.InvalidArgument, time.Millisecond}, {codes.PermissionDenied, time.Millisecond},
		{codes.AlreadyExists, 16 * time.Second}, {codes.Unavailable, 0}, {codes.NotFound, 0}, {codes.Internal, 0},
	}
	for _, test := range tests {
		t.Run(test.code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				jm := &fakeJobManager{answer: func(*pb.FromTaskManager) (*pb.FromJobManager, error) {
					return nil, status.Error(test.code, "because")
				}}
				s := &session{
					client: jm, outbox: newOutbox(), log: slog.New(slog.DiscardHandler), lease: newLease(func() time.Duration { return 0 }),
					register: func() *pb.Register { return &pb.Register{} }, reset: func(context.Context, string) {},
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				err := s.run(ctx)
				took := time.Since(began)
				if test.end == 0 {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("it gave up: %v", err)
					}
					return
				}
				if took > test.end || err == nil || err.Error() != "register at the job manager: because" {
					t.Errorf("after %s: %v", took, err)
				}
			})
		})
	}
}

// TestUnreadableDeployment fails the subtasks of a deployment that cannot be read: the job must not wait for
// them until its deployment times out.
func TestUnreadableDeployment(t *testing.T) {
	cfg := DefaultConfig()
	cfg.ID, cfg.WorkDir, cfg.Logger = "tm-1", t.TempDir(), slog.New(slog.DiscardHandler)
	tm, err := New(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	twice := &pb.PartitionOffset{Topic: "t", Partition: 1, Offset: 5}
	source := &pb.Source{Name: "in", Kafka: &pb.KafkaSource{Startup: &pb.OffsetSpec{Mode: "offsets", Offsets: []*pb.PartitionOffset{twice, twice}}}}
	tm.handle(t.Context(), &pb.FromJobManager{Message: &pb.FromJobManager_Deploy{Deploy: &pb.Deploy{
		Attempt: &pb.AttemptRef{Job: "j", LeaderEpoch: 1, Attempt: 1}, Job: &pb.Job{Sources: []*pb.Source{source}},
		Subtasks: []*pb.SubtaskRef{{Vertex: "in"}, {Vertex: "in", Index: 1}},
	}}})
	reports := tm.outbox.take().reports
	if len(reports) != 2 || reports[0].state != Failed || reports[0].failure.Class != "internal" || reports[0].failure.Message == "" {
		t.Errorf("reports: %+v, want FAILED with a reason for both subtasks", reports)
	}
}

// TestAckTooLarge: a checkpoint whose ack cannot be received is declined, as the stream would break again and again.
func TestAckTooLarge(t *testing.T) {
	ack := &manifest.Ack{Job: "j", Fence: ident.Fence{Epoch: 1, Attempt: 2}, Checkpoint: 3, Subtask: ident.Subtask{Vertex: "in"}}
	if m := ackOrDecline(ack); m.GetAck() == nil {
		t.Errorf("a small ack is sent as %v", m)
	}
	for i := range 400_000 {
		ack.Positions = append(ack.Positions, manifest.Position{Split: manifest.Split{Source: "in", Topic: "a-topic-with-a-name", Partition: int32(i)}, Next: 1 << 40})
	}
	d := ackOrDecline(ack).GetDecline()
	if d.GetCheckpoint() != 3 || !strings.Contains(d.GetReason(), "400000 positions") || !strings.Contains(d.GetReason(), "raise the parallelism") {
		t.Errorf("a large ack is sent as %.200s", d)
	}
}
