package jobmanager

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

const (
	registerTimeout = 10 * time.Second
	maxSlotsPerTM   = 1024
)

// registerServices puts the public and the internal service on a server, with reflection.
func registerServices(server *grpc.Server, m *Manager) {
	pb.RegisterJobServiceServer(server, &jobService{m: m})
	pb.RegisterSessionServiceServer(server, &sessionService{m: m})
	reflection.Register(server)
}

// sessionService serves task managers.
type sessionService struct {
	pb.UnimplementedSessionServiceServer
	m *Manager
}

type sessionStream = grpc.BidiStreamingServer[pb.FromTaskManager, pb.FromJobManager]

// Connect runs one stream of a session; see session.proto for the rules.
func (s *sessionService) Connect(stream sessionStream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	reg, err := s.receiveRegister(ctx, stream)
	if err != nil {
		return err
	}
	if err := checkRegister(reg); err != nil {
		s.refused(ctx, reg, err)
		return err
	}
	down := &downstream{queue: make(chan message, sendQueue), end: cancel}
	ses, resumed, err := s.m.sessions.open(registrationFromProto(reg), down, time.Now())
	if err != nil {
		err = status.Error(registerCode(err), err.Error())
		s.refused(ctx, reg, err)
		return err
	}
	s.m.log.Info("task manager connected", "worker", ses.worker, "slots", ses.slots, "data", ses.dataAddress, "resumed", resumed)
	err = s.serve(ctx, cancel, stream, ses, down)
	s.m.sessions.closed(ses, down, err)
	s.m.log.Info("stream of task manager ended", "worker", ses.worker, "reason", err)
	return status.Error(codes.Unavailable, err.Error())
}

func (s *sessionService) refused(ctx context.Context, reg *pb.Register, err error) {
	addr := ""
	if p, ok := peer.FromContext(ctx); ok {
		addr = p.Addr.String()
	}
	s.m.log.Warn("task manager refused", "worker", reg.GetWorker(), "peer", addr, "reason", status.Convert(err).Message())
}

func (s *sessionService) receiveRegister(ctx context.Context, stream sessionStream) (*pb.Register, error) {
	type first struct {
		m   *pb.FromTaskManager
		err error
	}
	got := make(chan first, 1)
	go func() { // ends with the stream at the latest, which ends when this handler returns
		m, err := stream.Recv()
		got <- first{m, err}
	}()
	t := time.NewTimer(registerTimeout)
	defer t.Stop()
	select {
	case f := <-got:
		if f.err != nil {
			return nil, f.err
		}
		if r := f.m.GetRegister(); r != nil {
			return r, nil
		}
		return nil, status.Errorf(codes.InvalidArgument, "the first message of a session must be Register, not %T", f.m.GetMessage())
	case <-t.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no Register within %s", registerTimeout)
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func checkRegister(r *pb.Register) error {
	if r.GetProtocolVersion() != wire.ProtocolVersion {
		return status.Errorf(codes.FailedPrecondition, "task manager %q speaks protocol version %d, this job manager speaks %d: install the same release on both",
			r.GetWorker(), r.GetProtocolVersion(), wire.ProtocolVersion)
	}
	if err := ident.CheckName(r.GetWorker()); err != nil {
		return status.Errorf(codes.InvalidArgument, "task manager id: %v", err)
	}
	if r.GetSlots() < 1 || r.GetSlots() > maxSlotsPerTM {
		return status.Errorf(codes.InvalidArgument, "task manager %q offers %d slots: want 1 to %d", r.GetWorker(), r.GetSlots(), maxSlotsPerTM)
	}
	if r.GetIncarnation() == "" || r.GetDataAddress() == "" {
		return status.Errorf(codes.InvalidArgument, "task manager %q: incarnation and data address must be given", r.GetWorker())
	}
	return nil
}

func registerCode(err error) codes.Code {
	switch {
	case errors.Is(err, errIDInUse):
		return codes.AlreadyExists
	case errors.Is(err, errUnknownSession):
		return codes.NotFound
	default:
		return codes.Internal
	}
}

// serve runs both directions of an open stream and says why it ended; never nil.
func (s *sessionService) serve(ctx context.Context, cancel context.CancelCauseFunc, stream sessionStream, ses *session, down *downstream) error {
	// A Send to a task manager that does not read returns only after this handler, so it is not waited for.
	go func() { cancel(send(ctx, stream, down)) }()
	cancel(s.receive(ctx, stream, ses, down))
	return context.Cause(ctx)
}

func send(ctx context.Context, stream sessionStream, down *downstream) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case m := <-down.queue:
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
}

// receive reads until the stream ends. Recv does not see cancel causes of ours, so it runs in a goroutine
// that ends when the handler has returned.
func (s *sessionService) receive(ctx context.Context, stream sessionStream, ses *session, down *downstream) error {
	got := make(chan *pb.FromTaskManager)
	failed := make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case got <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			return err
		case m := <-got:
			if err := s.handle(ctx, ses, down, m); err != nil {
				return err
			}
		}
	}
}

func (s *sessionService) handle(ctx context.Context, ses *session, down *downstream, m *pb.FromTaskManager) error {
	now := time.Now()
	switch v := m.GetMessage().(type) {
	case *pb.FromTaskManager_Heartbeat:
		s.m.sessions.heartbeat(ses, metricsFromProto(v.Heartbeat), now)
		select {
		case down.queue <- heartbeatAnswer(v.Heartbeat.GetSequence()):
		default:
			return errSlow
		}
	case *pb.FromTaskManager_Report:
		id, fence := wire.AttemptFromProto(v.Report.GetAttempt())
		s.m.post(ctx, id, reportFromProto(fence, v.Report, now))
	case *pb.FromTaskManager_Ack:
		ack, err := wire.AckFromProto(v.Ack, now)
		if err != nil {
			s.m.log.Error("ack refused", "worker", ses.worker, "reason", err)
			return nil
		}
		s.m.post(ctx, ack.Job, checkpointEvent{checkpoint.Ack{Ack: *ack}})
	case *pb.FromTaskManager_Decline:
		id, fence := wire.AttemptFromProto(v.Decline.GetAttempt())
		s.m.post(ctx, id, checkpointEvent{checkpoint.Decline{
			Fence: fence, Checkpoint: ident.CheckpointID(v.Decline.GetCheckpoint()), Subtask: wire.SubtaskFromProto(v.Decline.GetSubtask()), Reason: v.Decline.GetReason(),
		}})
	case *pb.FromTaskManager_Level:
		id, fence := wire.AttemptFromProto(v.Level.GetAttempt())
		ref := sinkRef{wire.SubtaskFromProto(v.Level.GetSubtask()), v.Level.GetSink()}
		s.m.post(ctx, id, sinkLevel{fence, ref, v.Level.GetSequence(), int(v.Level.GetReady()), int(v.Level.GetWanted())})
	default:
		return status.Errorf(codes.InvalidArgument, "unexpected message %T", v)
	}
	return nil
}

func reportFromProto(fence ident.Fence, r *pb.SubtaskReport, now time.Time) subtaskReport {
	out := subtaskReport{fence: fence, subtask: wire.SubtaskFromProto(r.GetSubtask()), state: job.SubtaskState(r.GetState())}
	if f := r.GetFailure(); f != nil {
		out.failure = &job.Failure{At: now, Class: job.Class(f.GetClass()), Message: f.GetMessage(), Subtask: f.GetSubtask()}
	}
	return out
}
