package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

const (
	dialRetry       = 100 * time.Millisecond // between two tries to reach the job manager
	dialRetryMax    = 500 * time.Millisecond
	registerTimeout = 10 * time.Second
	// idTakenPatience is how long an id that is in use may be that of our own predecessor, whose end the
	// job manager has not noticed yet.
	idTakenPatience = 15 * time.Second
)

var errLeaseOver = errors.New("the job manager has not answered for the heartbeat timeout")

// session keeps one session with the job manager alive: it dials, registers or resumes, and hands what
// comes down to the task manager. It is the only user of the outbox.
type session struct {
	client   pb.SessionServiceClient
	register func() *pb.Register
	handle   func(context.Context, *pb.FromJobManager)
	counters func() []subtaskCounters
	// reset ends all attempts and returns when they have ended; the session is over then.
	reset  func(ctx context.Context, why string)
	outbox *outbox
	lease  *lease
	log    *slog.Logger
	// onReady is told of each Welcome.
	onReady func(*pb.Welcome)

	id       string // of the session that can be resumed; empty: none
	interval time.Duration
}

// run returns only when ctx ends or the job manager refuses this task manager for good.
func (s *session) run(ctx context.Context) error {
	wait, lastReason := dialRetry, ""
	var takenSince time.Time
	for ctx.Err() == nil {
		began, err := s.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if status.Code(err) != codes.AlreadyExists {
			takenSince = time.Time{}
		} else if takenSince.IsZero() {
			takenSince = time.Now()
		}
		if refusedForGood(err) || !takenSince.IsZero() && time.Since(takenSince) > idTakenPatience {
			return fmt.Errorf("register at the job manager: %s", status.Convert(err).Message())
		}
		if began || status.Code(err) == codes.NotFound { // NotFound: the job manager is there, only the session is not
			wait = dialRetry
		}
		if reason := describe(err); reason != lastReason || began {
			s.log.Warn("session ended, dialling again", "reason", reason, "session", s.id)
			lastReason = reason
		}
		s.pause(ctx, wait)
		wait = min(wait*2, dialRetryMax)
	}
	return context.Cause(ctx)
}

// pause waits before the next dial; when the lease runs out meanwhile the session is over.
func (s *session) pause(ctx context.Context, wait time.Duration) {
	if s.id != "" {
		if left := s.lease.left(); left <= wait {
			sleep(ctx, max(left, 0))
			s.end(ctx, errLeaseOver.Error())
			return
		}
	}
	sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// end gives the session up: nothing of it may run when the next one begins.
func (s *session) end(ctx context.Context, why string) {
	s.reset(ctx, why)
	s.outbox.clear()
	s.id = ""
}

// refusedForGood says that trying again cannot help: another protocol version, or an id in use.
func refusedForGood(err error) bool {
	c := status.Code(err)
	return c == codes.FailedPrecondition || c == codes.InvalidArgument || c == codes.PermissionDenied
}

func describe(err error) string {
	if err == nil {
		return "the job manager closed the stream"
	}
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// once runs one stream. began says that the job manager had answered with Welcome.
func (s *session) once(parent context.Context) (began bool, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	sent := s.lease.now()
	stream, welcome, err := s.hello(ctx, cancel)
	if err != nil {
		if status.Code(err) == codes.NotFound && s.id != "" { // the job manager no longer holds the session
			s.end(parent, "the job manager no longer knows the session")
		}
		return false, err
	}
	if !welcome.GetResumed() && s.id != "" {
		s.end(parent, "the session was not resumed")
	}
	s.id = welcome.GetSession()
	s.interval = time.Duration(welcome.GetHeartbeatIntervalMs()) * time.Millisecond
	s.lease.begin(sent, time.Duration(welcome.GetHeartbeatTimeoutMs())*time.Millisecond)
	s.outbox.repeatAll()
	s.onReady(welcome)
	return true, s.serve(ctx, cancel, stream)
}

type sessionStream = grpc.BidiStreamingClient[pb.FromTaskManager, pb.FromJobManager]

// hello opens a stream and registers. It does not outlive the lease of a session that is to be resumed.
func (s *session) hello(ctx context.Context, cancel context.CancelCauseFunc) (sessionStream, *pb.Welcome, error) {
	limit, late := registerTimeout, fmt.Errorf("no answer to the registration within %s", registerTimeout)
	if left := max(s.lease.left(), 0); s.id != "" && left < limit {
		limit, late = left, errLeaseOver
	}
	timer := time.AfterFunc(limit, func() { cancel(late) })
	defer timer.Stop()
	stream, err := s.client.Connect(ctx)
	if err != nil {
		return nil, nil, whyCanceled(ctx, err)
	}
	welcome, err := s.greet(stream)
	err = whyCanceled(ctx, err)
	if err == nil && s.id != "" && s.lease.left() <= 0 { // the machine may have been suspended
		err = errLeaseOver
	}
	return stream, welcome, err
}

// whyCanceled is the reason why ctx ended, if that is what err says.
func whyCanceled(ctx context.Context, err error) error {
	if status.Code(err) == codes.Canceled && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *session) greet(stream sessionStream) (*pb.Welcome, error) {
	reg := s.register()
	reg.Session = s.id
	if err := stream.Send(&pb.FromTaskManager{Message: &pb.FromTaskManager_Register{Register: reg}}); err != nil {
		_, err = stream.Recv() // Send says only EOF; the reason comes with Recv
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	welcome := first.GetWelcome()
	if welcome == nil || welcome.GetHeartbeatIntervalMs() <= 0 || welcome.GetHeartbeatTimeoutMs() <= 0 {
		return nil, status.Errorf(codes.Internal, "the job manager answered the registration with %T", first.GetMessage())
	}
	return welcome, nil
}

// serve runs the three loops of an open stream and waits for them.
func (s *session) serve(ctx context.Context, cancel context.CancelCauseFunc, stream sessionStream) error {
	beat := make(chan *pb.Heartbeat)
	g := errgroup.Group{}
	run := func(loop func() error) {
		g.Go(func() error {
			err := loop()
			cancel(err)
			return err
		})
	}
	run(func() error { return s.heartbeats(ctx, beat) })
	run(func() error { return s.send(ctx, stream, beat) })
	run(func() error { return s.receive(ctx, stream) })
	err := g.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// heartbeats paces heartbeats and watches the lease, by a clock that a suspended machine does not stop.
func (s *session) heartbeats(ctx context.Context, beat chan<- *pb.Heartbeat) error {
	t := time.NewTicker(s.interval)
	defer t.Stop()
	over := time.NewTimer(s.lease.left())
	defer over.Stop()
	for {
		due := false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			due = true
		case <-over.C:
		}
		left := s.lease.left()
		if left <= 0 {
			return errLeaseOver
		}
		over.Reset(left)
		if !due {
			continue
		}
		select {
		case beat <- s.beat():
		default: // the sender is busy: this beat is skipped, the lease tells
		}
	}
}

// send is the only sender on the stream.
func (s *session) send(ctx context.Context, stream sessionStream, beat <-chan *pb.Heartbeat) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case hb := <-beat:
			hb.Sequence = s.lease.send()
			if err := stream.Send(&pb.FromTaskManager{Message: &pb.FromTaskManager_Heartbeat{Heartbeat: hb}}); err != nil {
				return err
			}
		case <-s.outbox.wake:
			if err := s.sendOutbox(stream); err != nil {
				return err
			}
		}
	}
}

func (s *session) sendOutbox(stream sessionStream) error {
	unsent := s.outbox.take()
	for _, r := range unsent.reports {
		if err := stream.Send(&pb.FromTaskManager{Message: &pb.FromTaskManager_Report{Report: reportToProto(r)}}); err != nil {
			return err
		}
	}
	for _, l := range unsent.levels {
		if err := stream.Send(&pb.FromTaskManager{Message: &pb.FromTaskManager_Level{Level: levelToProto(l)}}); err != nil {
			return err
		}
	}
	for _, a := range unsent.acks {
		if err := stream.Send(ackOrDecline(a)); err != nil {
			return err
		}
	}
	for _, d := range unsent.declines {
		if err := stream.Send(&pb.FromTaskManager{Message: &pb.FromTaskManager_Decline{Decline: declineToProto(d)}}); err != nil {
			return err
		}
	}
	return nil
}

// ackOrDecline declines a checkpoint whose ack is too large to be received: sent, it would end the stream again and again.
func ackOrDecline(a *manifest.Ack) *pb.FromTaskManager {
	m := &pb.FromTaskManager{Message: &pb.FromTaskManager_Ack{Ack: wire.AckToProto(a, time.Now())}}
	size := proto.Size(m)
	if size <= wire.MaxReportBytes {
		return m
	}
	d := decline{
		attemptID{a.Job, a.Fence}, a.Subtask, a.Checkpoint,
		fmt.Sprintf("its ack takes %d bytes for %d positions and %d transactions, at most %d can be sent: raise the parallelism", size, len(a.Positions), len(a.Transactions), wire.MaxReportBytes),
	}
	return &pb.FromTaskManager{Message: &pb.FromTaskManager_Decline{Decline: declineToProto(d)}}
}

func (s *session) receive(ctx context.Context, stream sessionStream) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if a := m.GetHeartbeat(); a != nil {
			s.lease.answered(a.GetSequence())
			continue
		}
		s.handle(ctx, m)
	}
}

func (s *session) beat() *pb.Heartbeat {
	hb := &pb.Heartbeat{}
	for _, c := range s.counters() {
		hb.Metrics = append(hb.Metrics, counterToProto(c))
	}
	if proto.Size(hb) > wire.MaxReportBytes/2 { // of very many splits; a heartbeat has to get through
		for _, m := range hb.Metrics {
			m.Lag = nil
		}
	}
	return hb
}

// newSession wires a session to the task manager.
func (tm *TaskManager) newSession(client pb.SessionServiceClient, dataAddress string) *session {
	return &session{
		client: client, outbox: tm.outbox, lease: tm.lease, log: tm.cfg.Logger,
		register: func() *pb.Register {
			return &pb.Register{
				Worker: string(tm.cfg.ID), Incarnation: string(tm.incarnation), Slots: int32(tm.cfg.Slots), DataAddress: dataAddress,
				HttpAddress: tm.httpAddress, ProtocolVersion: wire.ProtocolVersion,
			}
		},
		handle: tm.handle, counters: tm.counters, reset: tm.reset,
		onReady: func(w *pb.Welcome) {
			tm.cfg.Logger.Info("registered at the job manager", "jobmanager", tm.cfg.JobManager, "session", w.GetSession(), "resumed", w.GetResumed(), "leaderEpoch", w.GetLeaderEpoch())
		},
	}
}

// refuseDeploy fails an attempt that cannot be read, so that the job does not wait for it.
func (tm *TaskManager) refuseDeploy(id attemptID, subtasks []*pb.SubtaskRef, why error) {
	tm.cfg.Logger.Error("deployment refused", "job", id.job, "attempt", id.fence.Attempt, "reason", why)
	for _, s := range subtasks {
		tm.outbox.report(report{attempt: id, subtask: wire.SubtaskFromProto(s), state: Failed, failure: Failure{Class: "internal", Message: why.Error()}})
	}
}

// handle carries out what the job manager says. It never waits.
func (tm *TaskManager) handle(_ context.Context, m *pb.FromJobManager) {
	switch v := m.GetMessage().(type) {
	case *pb.FromJobManager_Deploy:
		d, err := deploymentFromProto(v.Deploy)
		if err != nil { // the job manager has read the same job; another release, perhaps
			tm.refuseDeploy(attemptFromProto(v.Deploy.GetAttempt()), v.Deploy.GetSubtasks(), err)
			return
		}
		tm.onDeploy(d)
	case *pb.FromJobManager_Trigger:
		tm.each(attemptFromProto(v.Trigger.GetAttempt()), func(t *task) {
			t.Trigger(ident.CheckpointID(v.Trigger.GetCheckpoint()), kindFromProto(v.Trigger.GetKind()))
		})
	case *pb.FromJobManager_Aborted:
		id, n := attemptFromProto(v.Aborted.GetAttempt()), ident.CheckpointID(v.Aborted.GetCheckpoint())
		tm.each(id, func(t *task) { t.Abort(n) })
		if a := tm.attemptOf(id); a != nil {
			a.uploads.end(n)
		}
		tm.outbox.settled(id, n)
	case *pb.FromJobManager_Completed:
		id, n := attemptFromProto(v.Completed.GetAttempt()), ident.CheckpointID(v.Completed.GetCheckpoint())
		tm.each(id, func(t *task) { t.Completed(n) })
		tm.outbox.settled(id, n)
	case *pb.FromJobManager_HandOut:
		h := v.HandOut
		tm.onHandOut(attemptFromProto(h.GetAttempt()), sinkKey{wire.SubtaskFromProto(h.GetSubtask()), h.GetSink()}, int(h.GetBelow()))
	case *pb.FromJobManager_AddSplits:
		id, to, splits := splitsFromProto(v.AddSplits)
		tm.onAddSplits(id, to, splits)
	case *pb.FromJobManager_RemoveSplits:
		id, from, splits := splitsFromProto(v.RemoveSplits)
		tm.onRemoveSplits(id, from, splits)
	case *pb.FromJobManager_Cancel:
		var subtasks []ident.Subtask
		for _, s := range v.Cancel.GetSubtasks() {
			subtasks = append(subtasks, wire.SubtaskFromProto(s))
		}
		tm.onCancel(attemptFromProto(v.Cancel.GetAttempt()), subtasks)
	default:
		tm.cfg.Logger.Warn("message of an unknown kind ignored", "kind", fmt.Sprintf("%T", v))
	}
}
