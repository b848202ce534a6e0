package jobmanager

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/blob"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

const (
	stateChunkBytes = 512 << 10
	// transferTimeout bounds the download of one piece of state, of which task managers ask for at least 1 MiB/s.
	transferTimeout = blob.MaxBytes >> 20 * time.Second
	// restoreBytesPerSecond is taken for the least that all subtasks together get; a deployment that gets less is given up.
	restoreBytesPerSecond = 16 << 20
)

// restoreTimeout is how long a deployment may take to read its state: each subtask some pieces at 1 MiB/s, and all of them
// what the job manager can send.
func restoreTimeout(m *manifest.Manifest) time.Duration {
	var largest int64
	for i := range m.State {
		largest = max(largest, m.State[i].SizeBytes)
	}
	return time.Duration(2*largest>>20+m.SizeBytes()/restoreBytesPerSecond) * time.Second
}

// PutState stores an upload; see session.proto.
func (s *sessionService) PutState(stream grpc.ClientStreamingServer[pb.PutStateRequest, pb.PutStateResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := first.GetHeader()
	job, fence := wire.AttemptFromProto(h.GetAttempt())
	if h == nil || h.GetSizeBytes() <= 0 {
		return status.Error(codes.InvalidArgument, "the first message of an upload must hold a header with a size")
	}
	if !s.m.isCurrent(job, fence) {
		return status.Errorf(codes.FailedPrecondition, "attempt %s of job %s is not the current one", fence, job)
	}
	chunk := first.GetData()
	next := func() ([]byte, error) { // io.EOF at the end, as the blob store expects
		if len(chunk) > 0 {
			out := chunk
			chunk = nil
			return out, nil
		}
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		return m.GetData(), nil
	}
	key := blob.Key{Job: job, Checkpoint: ident.CheckpointID(h.GetCheckpoint()), Subtask: wire.SubtaskFromProto(h.GetSubtask()), Operator: h.GetOperator()}
	stored, err := s.m.blobs.Put(stream.Context(), key, h.GetSizeBytes(), h.GetCrc32C(), next)
	if err != nil {
		return s.notStored(stream.Context(), key, fence, err)
	}
	return stream.SendAndClose(&pb.PutStateResponse{Blob: wire.BlobToProto(stored)})
}

// notStored answers an upload that failed. For want of space its checkpoint waits, and the upload is sent again.
func (s *sessionService) notStored(ctx context.Context, key blob.Key, fence ident.Fence, err error) error {
	level, code := slog.LevelError, codes.Internal // not Unavailable, which is a line that broke
	switch {
	case errors.Is(err, blob.ErrDiscarded), ctx.Err() != nil: // its checkpoint has failed, which is told elsewhere
		level = slog.LevelDebug
	case errors.Is(err, blob.ErrNoSpace):
		level, code = slog.LevelWarn, codes.ResourceExhausted
		s.m.post(ctx, key.Job, checkpointEvent{checkpoint.HeldUp{Fence: fence, Checkpoint: key.Checkpoint, Subtask: key.Subtask, Reason: err.Error()}})
	}
	s.m.log.Log(ctx, level, "state upload failed", "job", key.Job, "checkpoint", key.Checkpoint, "subtask", key.Subtask.String(), "reason", err)
	return status.Errorf(code, "the job manager cannot store the state: %v", err)
}

// GetState reads a piece that a manifest names; see session.proto.
func (s *sessionService) GetState(req *pb.GetStateRequest, stream grpc.ServerStreamingServer[pb.GetStateResponse]) error {
	ctx, cancel := context.WithTimeout(stream.Context(), transferTimeout)
	defer cancel()
	from, err := s.m.checkpointOf(ident.JobID(req.GetJob()), ident.CheckpointID(req.GetCheckpoint()))
	if err != nil {
		return status.Errorf(codes.NotFound, "read checkpoint %d of job %s: %v", req.GetCheckpoint(), req.GetJob(), err)
	}
	piece := pieceOf(from.manifest, req.GetOperator(), wire.SubtaskFromProto(req.GetWriter()))
	if piece == nil {
		return status.Errorf(codes.NotFound, "checkpoint %d of job %s holds no state of %s by %s", req.GetCheckpoint(), req.GetJob(), req.GetOperator(), wire.SubtaskFromProto(req.GetWriter()))
	}
	send := func(data []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return stream.Send(&pb.GetStateResponse{Data: data})
	}
	if piece.Blob.Name == "" {
		return sendChunks(piece.Inline, send)
	}
	return s.sendBlob(piece.Blob, send)
}

func pieceOf(m *manifest.Manifest, operator string, writer ident.Subtask) *manifest.State {
	for i := range m.State {
		if m.State[i].Operator == operator && m.State[i].Subtask == writer {
			return &m.State[i]
		}
	}
	return nil
}

func sendChunks(data []byte, send func([]byte) error) error {
	for len(data) > 0 {
		n := min(len(data), stateChunkBytes)
		if err := send(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (s *sessionService) sendBlob(b manifest.Blob, send func([]byte) error) error {
	r, err := s.m.blobs.Open(b)
	if err != nil {
		return status.Errorf(codes.DataLoss, "open state file %s: %v", b.Name, err)
	}
	defer r.Close()
	buf := make([]byte, stateChunkBytes)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil // the reader has checked length and checksum, or answered with another error
		default:
			return status.Errorf(codes.DataLoss, "read state file %s: %v", b.Name, err)
		}
	}
}
