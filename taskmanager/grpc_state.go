package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint/blob"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/taskmanager/subtask"
)

const (
	// chunkBytes keeps a message well below the limits of messages.
	chunkBytes = 512 << 10
	// transferBase bounds the transfer of a piece of state, together with a rate of at least 1 MiB/s.
	transferBase = 30 * time.Second
	// An upload for which there is no room is sent again after a pause that doubles.
	spaceRetryMin, spaceRetryMax = time.Second, 8 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stateTransfer moves keyed state to and from the job manager.
type stateTransfer struct {
	client pb.SessionServiceClient
}

func newStateTransfer(conn grpc.ClientConnInterface) *stateTransfer {
	return &stateTransfer{client: pb.NewSessionServiceClient(conn)}
}

func transferTimeout(sizeBytes int64) time.Duration {
	return transferBase + time.Duration(sizeBytes>>20)*time.Second
}

// put uploads one piece; the blob is durable at the job manager when it returns. While there is no room for it there, it is
// sent again and again, over lines that break meanwhile, too: the job manager tells of it, and ends ctx when it gives the
// checkpoint up.
func (t *stateTransfer) put(ctx context.Context, a *manifest.Ack, operator string, state []byte) (manifest.Blob, error) {
	full := false
	for pause := spaceRetryMin; ; pause = min(2*pause, spaceRetryMax) {
		blob, err := t.putOnce(ctx, a, operator, state)
		code := status.Code(err)
		full = full || code == codes.ResourceExhausted
		if !full || code != codes.ResourceExhausted && code != codes.Unavailable {
			return blob, err
		}
		select {
		case <-ctx.Done():
			return blob, err
		case <-time.After(pause):
		}
	}
}

func (t *stateTransfer) putOnce(ctx context.Context, a *manifest.Ack, operator string, state []byte) (manifest.Blob, error) {
	ctx, cancel := context.WithTimeout(ctx, transferTimeout(int64(len(state))))
	defer cancel()
	stream, err := t.client.PutState(ctx)
	if err != nil {
		return manifest.Blob{}, fmt.Errorf("upload state of %s: %w", operator, err)
	}
	header := &pb.PutStateHeader{
		Attempt: wire.AttemptToProto(a.Job, a.Fence), Checkpoint: uint64(a.Checkpoint), Subtask: wire.SubtaskToProto(a.Subtask),
		Operator: operator, SizeBytes: int64(len(state)), Crc32C: crc32.Checksum(state, castagnoli),
	}
	for rest := state; header != nil || len(rest) > 0; header = nil {
		n := min(len(rest), chunkBytes)
		if stream.Send(&pb.PutStateRequest{Header: header, Data: rest[:n]}) != nil {
			break // the reason comes with CloseAndRecv
		}
		rest = rest[n:]
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return manifest.Blob{}, fmt.Errorf("upload state of %s: %w", operator, err)
	}
	return wire.BlobFromProto(resp.GetBlob()), nil
}

// lineError says that the job manager could not be reached for long enough.
type lineError struct{ error }

func (e *lineError) Unwrap() error { return e.error }

// FailureClass says that the network, or the other end of it, is the cause.
func (*lineError) FailureClass() string { return subtask.ClassExternal }

// get reads one piece of the checkpoint that an attempt is restored from. If the line breaks it begins anew, as the session
// beside it may be resumed; one that is not ends the attempt, and ctx.
func (t *stateTransfer) get(ctx context.Context, job ident.JobID, checkpoint ident.CheckpointID, ref stateRef) ([]byte, error) {
	size := ref.sizeBytes
	if size <= 0 || size > blob.MaxBytes { // what the job manager takes can be read again
		return nil, fmt.Errorf("read state of %s as written by %s: %d bytes is out of range", ref.operator, ref.writer, size)
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout(size))
	defer cancel()
	for {
		state, err := t.getOnce(ctx, job, checkpoint, ref)
		switch code := status.Code(err); {
		case err != nil && (ctx.Err() != nil || code == codes.DeadlineExceeded):
			return nil, &lineError{err}
		case code != codes.Unavailable:
			return state, err
		}
		select {
		case <-ctx.Done():
			return nil, &lineError{err}
		case <-time.After(dialRetry):
		}
	}
}

func (t *stateTransfer) getOnce(ctx context.Context, job ident.JobID, checkpoint ident.CheckpointID, ref stateRef) ([]byte, error) {
	size := ref.sizeBytes
	stream, err := t.client.GetState(ctx, &pb.GetStateRequest{Job: string(job), Checkpoint: uint64(checkpoint), Operator: ref.operator, Writer: wire.SubtaskToProto(ref.writer)})
	if err != nil {
		return nil, fmt.Errorf("read state of %s: %w", ref.operator, err)
	}
	state := make([]byte, 0, size)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read state of %s: %w", ref.operator, err)
		}
		if int64(len(state)+len(m.GetData())) > size {
			return nil, fmt.Errorf("read state of %s: more than the %d bytes that the manifest names", ref.operator, size)
		}
		state = append(state, m.GetData()...)
	}
	if int64(len(state)) != size {
		return nil, fmt.Errorf("read state of %s: %d bytes instead of the %d that the manifest names", ref.operator, len(state), size)
	}
	return state, nil
}
