package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// keptJob is a job manager that knows one job, or none, and perhaps some that ended before.
type keptJob struct {
	pb.JobServiceClient
	job       *pb.JobStatus
	earlier   []*pb.JobStatus
	submitted *pb.SubmitRequest
}

func (k *keptJob) List(context.Context, *pb.ListRequest, ...grpc.CallOption) (*pb.ListResponse, error) {
	return &pb.ListResponse{Jobs: append(slices.Clone(k.earlier), k.job)}, nil
}

func (k *keptJob) Get(context.Context, *pb.GetRequest, ...grpc.CallOption) (*pb.GetResponse, error) {
	if k.job == nil {
		return nil, status.Error(codes.NotFound, "no such job")
	}
	return &pb.GetResponse{Job: k.job}, nil
}

func (k *keptJob) Submit(_ context.Context, req *pb.SubmitRequest, _ ...grpc.CallOption) (*pb.SubmitResponse, error) {
	k.submitted = req
	return &pb.SubmitResponse{JobId: "new"}, nil
}

// TestRunGoesOn is where a run begins on a directory that knows the job. What is lost is not passed over unasked.
func TestRunGoesOn(t *testing.T) {
	ended := func(state string) *pb.JobStatus {
		return &pb.JobStatus{Id: "old", Name: "orders", State: state, EndedAt: timestamppb.Now(), Failure: &pb.Failure{Message: "two ways out"},
			Checkpoints: &pb.CheckpointStatus{Latest: &pb.CheckpointInfo{Id: 7}}}
	}
	early := &pb.JobStatus{Id: "early", Name: "orders", State: "FAILED", EndedAt: timestamppb.Now(), SubmittedAt: timestamppb.Now()}
	for _, c := range []struct {
		name, chosen string
		job          *pb.JobStatus
		from         string // of the new job
		code         int
	}{
		{"nothing is known", "", nil, "", 0},
		{"nothing is known, chosen", "old/3", nil, "old/3", 0}, // the job manager says that it is not there
		{"stopped", "", ended("STOPPED"), "old/7", 0},
		{"stopped, chosen", "old/3", ended("STOPPED"), "old/3", 0},
		{"ended before its first checkpoint", "", early, "", 0},
		{"finished before its first checkpoint", "", &pb.JobStatus{Id: "old", Name: "orders", State: "FINISHED", EndedAt: timestamppb.Now()}, "", 0},
		{"finished", "", ended("FINISHED"), "", 0},
		{"lost", "", ended("FAILED_DATA_LOSS"), "", exitJobDataLoss},
		{"lost, chosen", "old/6", ended("FAILED_DATA_LOSS"), "old/6", 0},
		{"runs, chosen", "old/3", &pb.JobStatus{Id: "old", Name: "orders", State: "RUNNING"}, "", exitUsage},
	} {
		var stderr bytes.Buffer
		l := &localCluster{cli: &cli{stderr: &stderr}, dataDir: "d", keep: true, from: c.chosen}
		client := &keptJob{job: c.job}
		_, err := l.submit(t.Context(), client, &pb.SubmitRequest{})
		var exit *exitError
		switch {
		case c.code != 0:
			if !errors.As(err, &exit) || exit.code != c.code || client.submitted != nil {
				t.Errorf("%s: error %v, submitted %v", c.name, err, client.submitted)
			}
		case err != nil || client.submitted.GetFromCheckpoint() != c.from:
			t.Errorf("%s: error %v, from checkpoint %q, want %q", c.name, err, client.submitted.GetFromCheckpoint(), c.from)
		}
		if c.code == exitJobDataLoss && !strings.Contains(err.Error(), "two ways out") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestRunOnDamage: where a job was, and cannot be read, a new one does not begin from the start by itself.
func TestRunOnDamage(t *testing.T) {
	damaged := func(state string, ended bool, latest *pb.CheckpointInfo) *pb.JobStatus {
		j := &pb.JobStatus{Id: "old", Name: "orders", State: state, Damage: "checkpoint 8 is damaged", Checkpoints: &pb.CheckpointStatus{Latest: latest}}
		if ended {
			j.EndedAt = timestamppb.Now()
		}
		return j
	}
	seven := &pb.CheckpointInfo{Id: 7}
	for _, c := range []struct {
		name, chosen string
		job          *pb.JobStatus
		from         string
		refused      bool
	}{
		{"stopped", "", damaged("STOPPED", true, nil), "", true},
		{"stopped, chosen", "old/3", damaged("STOPPED", true, nil), "old/3", false},
		{"stopped, the newest can be read", "", damaged("STOPPED", true, seven), "old/7", false},
		{"finished", "", damaged("FINISHED", true, nil), "", false},
		{"not ended", "", damaged("RUNNING", false, seven), "", true},
	} {
		l := &localCluster{cli: &cli{stderr: &bytes.Buffer{}}, dataDir: "d", keep: true, from: c.chosen}
		client := &keptJob{job: c.job}
		_, err := l.submit(t.Context(), client, &pb.SubmitRequest{})
		switch {
		case c.refused:
			if err == nil || !strings.Contains(err.Error(), "checkpoint 8 is damaged") || client.submitted != nil {
				t.Errorf("%s: error %v, submitted %v", c.name, err, client.submitted)
			}
		case err != nil || client.submitted.GetFromCheckpoint() != c.from:
			t.Errorf("%s: error %v, from checkpoint %q, want %q", c.name, err, client.submitted.GetFromCheckpoint(), c.from)
		}
	}
}

// TestRunGoesOnFromBefore: a run that ended before its first checkpoint had gone on from one before it, and so does the next,
// from the same place; one that had begun anew begins anew.
func TestRunGoesOnFromBefore(t *testing.T) {
	at := func(id, name, state string, second int64, latest *pb.CheckpointInfo) *pb.JobStatus {
		when := timestamppb.New(time.Unix(second, 0))
		return &pb.JobStatus{Id: id, Name: name, State: state, SubmittedAt: when, EndedAt: when, Checkpoints: &pb.CheckpointStatus{Latest: latest}}
	}
	ten := &pb.CheckpointInfo{Id: 10}
	for _, c := range []struct {
		name    string
		earlier []*pb.JobStatus
		from    string
	}{
		{"stopped before", []*pb.JobStatus{at("a", "orders", "STOPPED", 5, ten), at("b", "orders", "STOPPED", 7, nil), at("f", "orders", "FINISHED", 3, ten)}, "e/0"},
		{"lost before, and gone on from what the user chose", []*pb.JobStatus{at("a", "orders", "FAILED_DATA_LOSS", 5, ten)}, "e/0"},
		{"finished before", []*pb.JobStatus{at("a", "orders", "STOPPED", 5, ten), at("f", "orders", "FINISHED", 7, ten)}, ""},
		{"never one", []*pb.JobStatus{at("b", "orders", "CANCELED", 5, nil), at("o", "other", "STOPPED", 8, ten)}, ""},
	} {
		var stderr bytes.Buffer
		l := &localCluster{cli: &cli{stderr: &stderr}, dataDir: "d", keep: true}
		client := &keptJob{job: at("e", "orders", "FAILED", 9, nil), earlier: c.earlier}
		if _, err := l.submit(t.Context(), client, &pb.SubmitRequest{Job: &pb.Job{Name: "orders"}}); err != nil || client.submitted.GetFromCheckpoint() != c.from {
			t.Errorf("%s: %v, from checkpoint %q, want %q", c.name, err, client.submitted.GetFromCheckpoint(), c.from)
		}
	}
}
