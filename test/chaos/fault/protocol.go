package fault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/test/chaos/proxy"
	"github.com/sluice-stream/sluice/test/chaos/rig"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// sessions are all connections of task managers to the job manager.
var sessions = proxy.Edge{From: proxy.Any, To: rig.JobManager}

func protocolFaults() []Fault {
	return []Fault{
		{ID: "F20", Variant: "cut", What: "the sessions of all task managers are reset every three seconds: messages are lost and repeated", Inject: cutSessions},
		{
			ID: "F20", Variant: "bytes", What: "each session is reset after a few thousand bytes, in the middle of messages", Inject: shortSessions,
			Expect: Expect{MaxAttempts: 6}, // one that is never resumed for long enough is lost
		},
		{ID: "F20", Variant: "late", What: "every message between task managers and job manager comes 75 ± 50 ms late, in sessions that are reset", Inject: lateSessions},
		{
			ID: "F21", What: "acks come after their checkpoint has expired", Inject: lateAcks,
			Tune: func(t *Tuning) { t.CheckpointTimeout = time.Second },
		},
		{ID: "F30", What: "a task manager of another protocol version wants to register", Inject: otherVersion},
	}
}

func cutSessions(ctx context.Context, s *Scene) error {
	s.Begin()
	for range 5 {
		s.Mesh.Cut(sessions)
		if err := pause(ctx, 3*time.Second); err != nil { // longer than a session has to be resumed
			return err
		}
	}
	return nil
}

func shortSessions(ctx context.Context, s *Scene) error {
	s.Begin()
	for range 5 {
		s.Mesh.Set(sessions, proxy.Rule{CutAfterBytes: 2000 + s.Rand.Int64N(20000)})
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	s.Mesh.Heal()
	return nil
}

func lateSessions(ctx context.Context, s *Scene) error {
	s.Begin()
	s.Mesh.Set(sessions, proxy.Rule{Delay: 75 * time.Millisecond, Jitter: 50 * time.Millisecond})
	for range 5 {
		s.Mesh.Cut(sessions)
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
	}
	s.Mesh.Heal()
	return nil
}

// lateAcks silences the way to the job manager for longer than the checkpoint timeout and for less than the
// heartbeat timeout. The checkpoint fails; what it sealed travels with the next one.
func lateAcks(ctx context.Context, s *Scene) error {
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	dropped, err := s.dropped(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	for range 3 {
		s.Mesh.Set(sessions, proxy.Rule{BlockForward: true})
		if err := pause(ctx, 2200*time.Millisecond); err != nil {
			return err
		}
		s.Mesh.Heal()
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
	}
	_, err = s.WaitFor(ctx, s.Job, "past a failed checkpoint", patience, func(j *cluster.Job) bool { return j.Checkpoints.Failed > before.Checkpoints.Failed })
	if err != nil {
		return err
	}
	now, err := s.dropped(ctx)
	if err == nil && now <= dropped {
		err = fmt.Errorf("late acks are not counted: %d messages were dropped before, %d are now", dropped, now)
	}
	return err
}

// dropped is how many messages about checkpoints the job manager has dropped, by its metrics.
func (s *Scene) dropped(ctx context.Context) (int, error) {
	metrics, err := s.Metrics(ctx, rig.JobManager)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(metrics) {
		if value, found := strings.CutPrefix(line, `sluice_messages_dropped_total{reason="checkpoint"} `); found {
			return strconv.Atoi(strings.TrimSpace(value))
		}
	}
	return 0, nil // none yet
}

// otherVersion speaks the protocol of a version that there never will be.
func otherVersion(ctx context.Context, s *Scene) error {
	s.Begin()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("dialling the job manager: %w", err)
	}
	defer conn.Close()
	stream, err := pb.NewSessionServiceClient(conn).Connect(ctx)
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	register := &pb.Register{Worker: "tm-other", Incarnation: "1", Slots: 1, DataAddress: "127.0.0.1:1", ProtocolVersion: 9999}
	if err := stream.Send(&pb.FromTaskManager{Message: &pb.FromTaskManager_Register{Register: register}}); err != nil {
		return fmt.Errorf("registering: %w", err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.FailedPrecondition {
		return fmt.Errorf("a task manager of protocol version 9999 was not refused as such: %w", errors.Join(err, ctx.Err()))
	}
	return nil
}
