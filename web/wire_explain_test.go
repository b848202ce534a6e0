package web

import (
	"encoding/json"
	"strings"
	"testing"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// What is not known is null, and lists are never missing, as programs expect them.
func TestLagAndExplanationJSON(t *testing.T) {
	zero := int64(0)
	lag, err := json.Marshal(LagFromProto(&pb.LagResponse{JobId: "1f", Partitions: []*pb.PartitionLag{{Topic: "in", Position: &zero, Note: "down", Published: []*pb.PublishedOffset{{Storage: "kafka"}}}}}))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"1f","name":"","state":"","partitions":[{"source":"","topic":"in","partition":0,"position":0,"positionFrom":"","end":null,"stableEnd":null,` +
		`"stop":null,"lag":null,"subtask":"","taskmanager":"","published":[{"storage":"kafka","next":null,"publishedAt":null,"note":""}],"note":"down"}],"total":0,"unknown":0}`
	if string(lag) != want {
		t.Errorf("got %s\nwant %s", lag, want)
	}
	empty, err := json.Marshal(ExplanationFromProto(&pb.ExplainResponse{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"findings":[]`, `"pendingCheckpoint":null`, `"sinks":[]`, `"waits":[]`, `"partitions":[]`, `"nextAt":null`} {
		if !strings.Contains(string(empty), want) {
			t.Errorf("%s is not in %s", want, empty)
		}
	}
	full, err := json.Marshal(ExplanationFromProto(&pb.ExplainResponse{
		Job: &pb.JobStatus{Id: "1f", Name: "orders", State: "RUNNING"}, PendingCheckpoint: &pb.PendingCheckpoint{Id: 42, Expected: 2},
		Findings: []*pb.Finding{{Subject: "state", Level: "ok", Text: "It runs."}}, Restart: &pb.RestartStatus{Strategy: "none"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"id":"1f"`, `"name":"orders"`, `"state":"RUNNING"`, `"text":"It runs."`, `"pendingCheckpoint":{"id":42,"triggeredAt":null,"acked":0,"expected":2,"missing":[],"reason":""}`, `"strategy":"none"`} {
		if !strings.Contains(string(full), want) {
			t.Errorf("%s is not in %s", want, full)
		}
	}
}
