package web

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// fullStatus sets every field of a job's status that the JSON shows.
func fullStatus() *pb.JobStatus {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC))
	return &pb.JobStatus{
		Id: "1f", Name: "orders", State: "RUNNING", Attempt: math.MaxUint64, Parallelism: 2, Restarts: 2, SubmittedAt: at, StateSince: at,
		Slots: &pb.SlotStatus{Needed: 2, Held: 1, Free: 0, WaitingSince: at, Explain: "need 2, have 1"},
		Vertices: []*pb.VertexStatus{{Name: "orders", Parallelism: 2, Operators: []string{"orders"}, Subtasks: []*pb.SubtaskStatus{
			{Index: 0, State: "RUNNING", TaskManager: "tm-1", RecordsIn: math.MaxInt64, RecordsOut: 1 << 53, Lag: []*pb.SplitLag{{Topic: "orders", Partition: 3, Lag: -1}}},
		}}},
		Checkpoints: &pb.CheckpointStatus{Completed: 41, Failed: 1, Restored: 7, Pending: "waits", LastFailure: "checkpoint 6: why", Latest: &pb.CheckpointInfo{
			Id: 41, CompletedAt: at, DurationMs: 12, SizeBytes: 880, Committed: true, Attempt: 3,
			Offsets: []*pb.SourceOffsets{{Source: "orders", Offsets: []*pb.PartitionOffset{{Topic: "orders", Partition: 0, Offset: 1<<53 + 1}, {Topic: "orders", Partition: 10, Offset: 998}}}},
		}},
		Failure:      &pb.Failure{At: at, Class: "external", Message: "m", Subtask: "orders/0"},
		Waiting:      []string{"w"},
		Publications: []*pb.OffsetPublication{{Source: "orders", Storage: "zookeeper", Checkpoint: 41, PublishedAt: at, Error: "e", FailingSince: at}},
	}
}

// jobJSON is fullStatus in the form of DESIGN 8.1.
const jobJSON = `{
 "id": "1f",
 "name": "orders",
 "state": "RUNNING",
 "stateSince": "2026-01-02T03:04:05.6Z",
 "submittedAt": "2026-01-02T03:04:05.6Z",
 "endedAt": null,
 "attempt": 18446744073709551615,
 "parallelism": 2,
 "slots": {
  "needed": 2,
  "held": 1,
  "free": 0,
  "waitingSince": "2026-01-02T03:04:05.6Z",
  "explain": "need 2, have 1"
 },
 "vertices": [
  {
   "name": "orders",
   "parallelism": 2,
   "operators": [
    "orders"
   ],
   "subtasks": [
    {
     "index": 0,
     "state": "RUNNING",
     "taskmanager": "tm-1",
     "recordsIn": 9223372036854775807,
     "recordsOut": 9007199254740992,
     "bytesIn": 0,
     "bytesOut": 0,
     "recordsSkipped": 0,
     "recordsDeadLettered": 0,
     "recordsFailed": 0,
     "lag": [
      {
       "topic": "orders",
       "partition": 3,
       "lag": -1
      }
     ]
    }
   ]
  }
 ],
 "checkpoints": {
  "completed": 41,
  "failed": 1,
  "restored": 7,
  "latest": {
   "id": 41,
   "attempt": 3,
   "completedAt": "2026-01-02T03:04:05.6Z",
   "durationMs": 12,
   "sizeBytes": 880,
   "committed": true,
   "final": false,
   "offsets": {
    "orders": {
     "orders": {
      "0": 9007199254740993,
      "10": 998
     }
    }
   }
  },
  "pending": "waits",
  "lastFailure": "checkpoint 6: why"
 },
 "restarts": 2,
 "failure": {
  "at": "2026-01-02T03:04:05.6Z",
  "class": "external",
  "message": "m",
  "subtask": "orders/0"
 },
 "waiting": [
  "w"
 ],
 "publications": [
  {
   "source": "orders",
   "storage": "zookeeper",
   "checkpoint": 41,
   "publishedAt": "2026-01-02T03:04:05.6Z",
   "error": "e",
   "failingSince": "2026-01-02T03:04:05.6Z"
  }
 ]
}`

// TestJobJSON is the contract of DESIGN 8.1: names, shapes, and numbers of 64 bits as numbers.
func TestJobJSON(t *testing.T) {
	got, err := json.MarshalIndent(JobFromProto(fullStatus()), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != jobJSON {
		t.Errorf("got\n%s\nwant\n%s", got, jobJSON)
	}
}

// TestEmptyJSON has lists that are empty and objects that are null, as programs expect them; none is missing.
func TestEmptyJSON(t *testing.T) {
	job, err := json.Marshal(JobFromProto(&pb.JobStatus{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"vertices":[]`, `"latest":null`, `"failure":null`, `"waiting":[]`, `"waitingSince":null`, `"explain":""`, `"restarts":0`, `"attempt":0`} {
		if !strings.Contains(string(job), want) {
			t.Errorf("%s is not in %s", want, job)
		}
	}
	tm, err := json.Marshal(TaskManagerFromProto(&pb.TaskManagerInfo{Id: "tm-1", State: "LOST", Slots: 2, DataAddress: "a:1"}))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"tm-1","state":"LOST","slots":2,"freeSlots":0,"dataAddress":"a:1","httpAddress":"","connectedAt":null,"lastHeartbeat":null,"jobs":[],"version":""}`
	if string(tm) != want {
		t.Errorf("got %s, want %s", tm, want)
	}
}
