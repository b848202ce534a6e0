package jobmanager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/jobmanager/job"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// watchPause is the shortest time between two messages of a Watch.
const watchPause = 100 * time.Millisecond

// jobService is the public service.
type jobService struct {
	pb.UnimplementedJobServiceServer
	m *Manager
}

// Submit checks, stores and starts a job.
func (s *jobService) Submit(ctx context.Context, req *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	j, err := wire.JobFromProto(req.GetJob())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	id, warnings, err := s.m.submit(ctx, submission{job: j, fromCheckpoint: req.GetFromCheckpoint(), allowDroppedState: req.GetAllowDroppedState()})
	if err != nil {
		return nil, submitStatus(err)
	}
	return &pb.SubmitResponse{JobId: string(id), Warnings: warnings}, nil
}

// submitStatus gives an error of submit its code; the faults of an invalid job become details.
func submitStatus(err error) error {
	var invalid *invalidJobError
	switch {
	case errors.As(err, &invalid):
		st := status.New(codes.InvalidArgument, invalid.Error())
		bad := &errdetails.BadRequest{}
		for _, p := range invalid.faults {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: p.field, Description: p.text})
		}
		if with, err := st.WithDetails(bad); err == nil {
			st = with
		}
		return st.Err()
	case errors.Is(err, errNameInUse):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, errUnknownJob), errors.Is(err, errUnknownCheckpoint):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, errCheckFailed), errors.Is(err, errNotRestorable):
		return status.Error(codes.FailedPrecondition, err.Error())
	default:
		return status.Error(codes.Internal, err.Error())
	}
}

func (s *jobService) find(nameOrID string) (*runner, error) {
	r, err := s.m.find(nameOrID)
	if err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	return r, nil
}

// List shows every job that is known, newest first.
func (s *jobService) List(context.Context, *pb.ListRequest) (*pb.ListResponse, error) {
	resp := &pb.ListResponse{}
	for _, r := range s.m.jobs() {
		resp.Jobs = append(resp.Jobs, s.m.statusToProto(r))
	}
	return resp, nil
}

// Get shows one job.
func (s *jobService) Get(_ context.Context, req *pb.GetRequest) (*pb.GetResponse, error) {
	r, err := s.find(req.GetJob())
	if err != nil {
		return nil, err
	}
	return &pb.GetResponse{Job: s.m.statusToProto(r)}, nil
}

// Watch sends the status after each change until the job has ended.
func (s *jobService) Watch(req *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	r, err := s.find(req.GetJob())
	if err != nil {
		return err
	}
	ctx := stream.Context()
	pause := time.NewTimer(0)
	defer pause.Stop()
	// Counters change without an event, so a running job is sent once a second even when nothing happens.
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	for {
		view, changed := r.watch()
		if err := stream.Send(&pb.WatchResponse{Job: s.m.statusToProto(r)}); err != nil {
			return err
		}
		if view.state.Terminal() {
			return nil
		}
		select {
		case <-changed:
		case <-beat.C:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.m.ending:
			return status.Error(codes.Unavailable, "the job manager is ending; its jobs go on when it is started again")
		}
		pause.Reset(watchPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// Cancel ends a job without a final checkpoint.
func (s *jobService) Cancel(ctx context.Context, req *pb.CancelRequest) (*pb.CancelResponse, error) {
	r, err := s.find(req.GetJob())
	if err != nil {
		return nil, err
	}
	if err := s.m.ask(ctx, r, job.Cancel{}); err != nil {
		return nil, err
	}
	return &pb.CancelResponse{JobId: string(r.id)}, nil
}

// Stop ends a job with a final checkpoint.
func (s *jobService) Stop(ctx context.Context, req *pb.StopRequest) (*pb.StopResponse, error) {
	r, err := s.find(req.GetJob())
	if err != nil {
		return nil, err
	}
	if err := s.m.ask(ctx, r, job.Stop{Drain: req.GetDrain()}); err != nil {
		return nil, err
	}
	return &pb.StopResponse{JobId: string(r.id)}, nil
}

// ListCheckpoints shows what is kept of a job.
func (s *jobService) ListCheckpoints(_ context.Context, req *pb.ListCheckpointsRequest) (*pb.ListCheckpointsResponse, error) {
	r, err := s.find(req.GetJob())
	if err != nil {
		return nil, err
	}
	list, err := s.m.checkpointsToProto(r.id)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &pb.ListCheckpointsResponse{JobId: string(r.id), Checkpoints: list}, nil
}

// ListTaskManagers shows every task manager that is or was connected since the start.
func (s *jobService) ListTaskManagers(context.Context, *pb.ListTaskManagersRequest) (*pb.ListTaskManagersResponse, error) {
	resp := &pb.ListTaskManagersResponse{}
	for _, w := range s.m.sessions.list() {
		info := &pb.TaskManagerInfo{
			Id: string(w.ID), State: w.State, Slots: int32(w.Slots), DataAddress: w.DataAddress, HttpAddress: w.HTTPAddress,
			ConnectedAt: timeToProto(w.ConnectedAt), LastHeartbeat: timeToProto(w.LastHeartbeat), Version: w.Version,
		}
		free, jobs := s.m.scheduler.onWorker(w.ID)
		info.FreeSlots = int32(free)
		for _, id := range jobs {
			if r, err := s.m.find(string(id)); err == nil {
				info.Jobs = append(info.Jobs, r.name)
			}
		}
		resp.TaskManagers = append(resp.TaskManagers, info)
	}
	slices.SortFunc(resp.TaskManagers, func(a, b *pb.TaskManagerInfo) int { return strings.Compare(a.GetId(), b.GetId()) })
	return resp, nil
}
