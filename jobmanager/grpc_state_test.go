package jobmanager

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/blob"
	"github.com/sluice-stream/sluice/ident"
)

// TestUploadNotStored: an upload for which there is no room is to be sent again, and its checkpoint waits for it; any other
// failure is the end of it.
func TestUploadNotStored(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(2))
	fence := ident.Fence{Epoch: m.epoch, Attempt: 1}
	key := blob.Key{Job: r.id, Checkpoint: 3, Subtask: ident.Subtask{Vertex: "count", Index: 1}, Operator: "count"}
	for _, c := range []struct {
		err  error
		code codes.Code
		held bool
	}{
		{fmt.Errorf("%w in d: disk full", blob.ErrNoSpace), codes.ResourceExhausted, true},
		{blob.ErrDiscarded, codes.Internal, false},
		{blob.ErrUpload, codes.Internal, false},
	} {
		for len(r.inbox) > 0 {
			<-r.inbox
		}
		err := (&sessionService{m: m}).notStored(t.Context(), key, fence, c.err)
		if status.Code(err) != c.code || (len(r.inbox) == 1) != c.held {
			t.Errorf("%v: answered with %v, %d messages to the job", c.err, err, len(r.inbox))
			continue
		}
		if !c.held {
			continue
		}
		want := checkpoint.HeldUp{Fence: fence, Checkpoint: 3, Subtask: key.Subtask, Reason: c.err.Error()}
		if got, ok := (<-r.inbox).(checkpointEvent); !ok || got.event != want {
			t.Errorf("%v: the job was told %v, want %v", c.err, got, want)
		}
	}
}
