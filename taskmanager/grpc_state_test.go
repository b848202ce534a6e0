package taskmanager

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/taskmanager/subtask"
)

// brokenLine serves a piece of state, and breaks in the middle of it so many times.
type brokenLine struct {
	pb.SessionServiceClient
	piece  string
	breaks int
	code   codes.Code // of a break
}

func (b *brokenLine) GetState(ctx context.Context, _ *pb.GetStateRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.GetStateResponse], error) {
	s := &pieceStream{rest: b.piece}
	if b.breaks != 0 {
		b.breaks--
		s.rest, s.end = b.piece[:3], status.Error(b.code, "the line broke")
	}
	return s, ctx.Err()
}

type pieceStream struct {
	grpc.ClientStream
	rest string
	end  error // nil: it is all there
}

func (s *pieceStream) Recv() (*pb.GetStateResponse, error) {
	if s.rest == "" {
		if s.end != nil {
			return nil, s.end
		}
		return nil, io.EOF
	}
	n := min(len(s.rest), 2)
	m := &pb.GetStateResponse{Data: []byte(s.rest[:n])}
	s.rest = s.rest[n:]
	return m, nil
}

// TestStateOverABrokenLine: a piece is read from its beginning again when the line breaks, as long as that may take.
func TestStateOverABrokenLine(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks int
		code   codes.Code
		class  string // of the failure; empty: it is read
	}{
		{"whole", 0, codes.OK, ""},
		{"broken twice", 2, codes.Unavailable, ""},
		{"broken for good", -1, codes.Unavailable, subtask.ClassExternal},
		{"too slow", 1, codes.DeadlineExceeded, subtask.ClassExternal},
		{"damaged at the job manager", 1, codes.DataLoss, subtask.ClassInternal},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			transfer := stateTransfer{client: &brokenLine{piece: "abcdefg", breaks: c.breaks, code: c.code}}
			state, err := transfer.get(t.Context(), "j", 1, stateRef{operator: "count", sizeBytes: 7})
			if c.class == "" && (err != nil || string(state) != "abcdefg") || c.class != "" && (err == nil || subtask.Class(err) != c.class) {
				t.Errorf("%s: %q, %v (%s)", c.name, state, err, subtask.Class(err))
			}
			if took := time.Since(began); took > transferTimeout(7) {
				t.Errorf("%s: took %s", c.name, took)
			}
		})
	}
}

// fullDisk answers uploads one after the other, the last answer again and again.
type fullDisk struct {
	pb.SessionServiceClient
	answers []codes.Code
}

func (f *fullDisk) PutState(ctx context.Context, _ ...grpc.CallOption) (grpc.ClientStreamingClient[pb.PutStateRequest, pb.PutStateResponse], error) {
	return &upload{disk: f, ctx: ctx}, nil
}

type upload struct {
	grpc.ClientStream
	disk *fullDisk
	ctx  context.Context
	got  []byte
}

func (u *upload) Send(m *pb.PutStateRequest) error {
	u.got = append(u.got, m.GetData()...)
	return nil
}

func (u *upload) CloseAndRecv() (*pb.PutStateResponse, error) {
	code := u.disk.answers[0]
	u.disk.answers = u.disk.answers[min(1, len(u.disk.answers)-1):]
	if code != codes.OK {
		return nil, status.Error(code, "not stored")
	}
	return &pb.PutStateResponse{Blob: &pb.Blob{Name: string(u.got)}}, u.ctx.Err()
}

// TestUploadWaitsForSpace: state is sent again, and whole, until there is room for it or nobody waits for it any more.
func TestUploadWaitsForSpace(t *testing.T) {
	const full, broken = codes.ResourceExhausted, codes.Unavailable
	for _, c := range []struct {
		name    string
		answers []codes.Code
		want    codes.Code
		took    time.Duration
	}{
		{"room again", []codes.Code{full, full, full, full, full, full, codes.OK}, codes.OK, (1 + 2 + 4 + 8 + 8 + 8) * time.Second},
		{"the line breaks meanwhile", []codes.Code{full, broken, full, codes.OK}, codes.OK, 7 * time.Second},
		{"the line breaks", []codes.Code{broken, codes.OK}, broken, 0},
		{"refused", []codes.Code{full, codes.Internal}, codes.Internal, time.Second},
		{"nobody waits", []codes.Code{full}, full, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			transfer := stateTransfer{client: &fullDisk{answers: c.answers}}
			blob, err := transfer.put(ctx, &manifest.Ack{Job: "j"}, "count", []byte("state"))
			if got := status.Code(err); got != c.want || err == nil && blob.Name != "state" || time.Since(began) != c.took {
				t.Errorf("%s: %q, %v after %s, want %s after %s", c.name, blob.Name, err, time.Since(began), c.want, c.took)
			}
		})
	}
}
