package jobmanager

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/blob"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// wideConnector has topics with very many partitions.
type wideConnector struct{ fakeConnector }

func (wideConnector) SinkPartitions(context.Context, *graph.Job) map[string]int {
	return map[string]int{"z": 5001}
}

// TestSubmitWarnsOfMarkers: a sink that would overload its brokers with transaction markers is named.
func TestSubmitWarnsOfMarkers(t *testing.T) {
	m := open(t)
	for _, wide := range []bool{false, true} {
		if wide {
			m.connector = wideConnector{}
		}
		j := countJob(1)
		j.Name = map[bool]string{false: "narrow", true: "wide"}[wide]
		j.Checkpoint.Interval = time.Second
		j.Sinks[0].Kafka.Guarantee = graph.ExactlyOnce
		_, warnings, err := m.submit(t.Context(), submission{job: j})
		if err != nil {
			t.Fatal(err)
		}
		warned := len(warnings) == 1 && strings.HasPrefix(warnings[0], "sinks.z.kafka.guarantee: 1 subtasks × 5001 partitions every 1s")
		if warned != wide || !wide && len(warnings) > 0 {
			t.Errorf("many partitions: %t, warnings %q", wide, warnings)
		}
	}
}

// TestHeirLooksFurther: an until that the predecessor did not have looks behind the end that bounded set for that one. Files of
// a takeover that is refused are gone.
func TestHeirLooksFurther(t *testing.T) {
	full := false
	m := openHooked(t, func(step boltstore.Step) error {
		if full && step == boltstore.StepCommit {
			return &os.PathError{Op: "write", Path: "checkpoints.db", Err: syscall.ENOSPC}
		}
		return nil
	})
	old := submitted(t, m, countJob(1))
	ended := found(0, 50)
	ended.Stop = 50
	content := []byte("state")
	sum := crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli))
	sent := false
	file, err := m.blobs.Put(t.Context(), blob.Key{Job: old.id, Checkpoint: 1, Operator: "o", Subtask: ident.Subtask{Vertex: "o"}}, int64(len(content)), sum, func() ([]byte, error) {
		if sent {
			return nil, io.EOF
		}
		sent = true
		return content, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	update(t, m, func(tx *boltstore.Tx) error {
		return tx.PutManifest(&manifest.Manifest{Job: old.id, Checkpoint: 1, Identity: old.plan.Identity, Positions: []manifest.Position{ended, found(1, 6), found(2, 7)},
			State: []manifest.State{{Operator: "o", Subtask: ident.Subtask{Vertex: "o"}, LastKeyGroup: old.plan.MaxParallelism - 1, SizeBytes: int64(len(content)), Blob: file}}})
	})
	old.isEnded.Store(true)
	heir := countJob(1)
	heir.Name, heir.Sources[0].Kafka.Until = "heir", "key == b'end'"
	full = true
	if _, _, err := m.submit(t.Context(), submission{job: heir, fromCheckpoint: string(old.id) + "/1"}); !errors.Is(err, boltstore.ErrNoSpace) {
		t.Errorf("on a full disk: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(m.cfg.DataDir, "blobs", "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != string(old.id) {
		t.Errorf("files of %v are left, %v", left, err)
	}
	full = false
	id, _, err := m.submit(t.Context(), submission{job: heir, fromCheckpoint: string(old.id) + "/1"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.find(string(id))
	if err != nil {
		t.Fatal(err)
	}
	if got := restored(t, m, r); got[0] != found(0, 50) {
		t.Errorf("it begins at %+v", got[0])
	}
	if !exists(filepath.Join(m.cfg.DataDir, "blobs", string(id))) {
		t.Error("the heir has no state")
	}
	r.isEnded.Store(true) // before its first checkpoint: the next goes on where it began
	again, _, err := m.submit(t.Context(), submission{job: heir, fromCheckpoint: string(id) + "/0"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err = m.find(string(again)); err != nil {
		t.Fatal(err)
	}
	if zero := r.coord.Status().Latest; zero.Positions[0] != found(0, 50) || zero.SizeBytes() != int64(len(content)) {
		t.Errorf("the heir of the heir begins at %+v with %d bytes", zero.Positions[0], zero.SizeBytes())
	}
}
