package main

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/web"
)

// scripted is a job manager that takes every job, and tells the states of a script to who watches it.
type scripted struct {
	pb.UnimplementedJobServiceServer
	mu sync.Mutex
	// watches is what each Watch in turn tells; "away" ends one as the end of the job manager does.
	watches [][]string
	// running is called when a script ends with a job that runs on; nil: nothing is.
	running func()
}

func (s *scripted) Submit(context.Context, *pb.SubmitRequest) (*pb.SubmitResponse, error) {
	return &pb.SubmitResponse{JobId: "4f1c", Warnings: []string{"mind the gap"}}, nil
}

func (s *scripted) Watch(_ *pb.WatchRequest, stream grpc.ServerStreamingServer[pb.WatchResponse]) error {
	s.mu.Lock()
	var states []string
	if len(s.watches) > 0 {
		states, s.watches = s.watches[0], s.watches[1:]
	}
	s.mu.Unlock()
	for _, state := range states {
		if state == "away" {
			return status.Error(codes.Unavailable, "the job manager is ending")
		}
		job := &pb.JobStatus{Id: "4f1c", Name: "orders", State: state}
		if strings.HasPrefix(state, "FAILED") {
			job.Failure = &pb.Failure{Message: "the topic is gone"}
		}
		if err := stream.Send(&pb.WatchResponse{Job: job}); err != nil {
			return err
		}
	}
	if len(states) > 0 && states[len(states)-1] == "RUNNING" { // it runs on
		if s.running != nil {
			s.running()
		}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	return nil
}

func serve(t *testing.T, service *scripted) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterJobServiceServer(server, service)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return l.Addr().String()
}

func TestSubmitWaitTellsHowTheJobEnded(t *testing.T) {
	job := writeFile(t, "job.yaml", goodJob)
	for _, c := range []struct {
		watches [][]string
		code    int
		says    string
	}{
		{[][]string{{"CREATED", "RUNNING", "FINISHED"}}, 0, "orders: FINISHED"},
		{[][]string{{"RUNNING", "STOPPED"}}, 0, "orders: STOPPED"},
		{[][]string{{"CANCELED"}}, 0, "orders: CANCELED"},
		{[][]string{{"RUNNING", "FAILED"}}, exitJobFailed, "job orders ended FAILED: the topic is gone"},
		{[][]string{{"FAILED_DATA_LOSS"}}, exitJobDataLoss, "FAILED_DATA_LOSS"},
		{[][]string{{"RUNNING", "away"}, {"away"}, {"RUNNING", "FINISHED"}}, 0, "the job manager is away"},
		{[][]string{{"away"}}, exitFailed, "the job manager is ending"},
	} {
		addr := serve(t, &scripted{watches: c.watches})
		got := sluice(t.Context(), nil, "submit", job, "--wait", "-o", "json", "--jobmanager", addr)
		if got.code != c.code || !strings.Contains(got.stderr, c.says) || !strings.Contains(got.stderr, "warning: mind the gap") {
			t.Errorf("%v: exit %d, stderr %q; want %d and %q", c.watches, got.code, got.stderr, c.code, c.says)
		}
		var last web.Job
		if err := json.Unmarshal([]byte(got.stdout), &last); c.code != exitFailed && (err != nil || last.Name != "orders") {
			t.Errorf("%v: %v in %q", c.watches, err, got.stdout)
		}
	}
}

func TestInterruptEndsFollowingButNotTheJob(t *testing.T) {
	job := writeFile(t, "job.yaml", goodJob)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	addr := serve(t, &scripted{watches: [][]string{{"RUNNING"}}, running: interrupt})
	got := sluice(ctx, nil, "submit", job, "--wait", "--jobmanager", addr)
	if got.code != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "no longer following; job orders goes on") {
		t.Errorf("exit %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
}

func TestCutCountsCharacters(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "ab…"}, {"äöüß", 4, "äöüß"}, {"äöüßé", 4, "äöü…"}, {"", 1, ""}} {
		if got := cut(c.text, c.n); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

func TestRate(t *testing.T) {
	v, at := &followView{}, time.Unix(0, 0)
	for _, c := range []struct {
		after   time.Duration
		records int64
		want    string
	}{
		{0, 100, "100 records, 0/s"},
		{500 * time.Millisecond, 200, "200 records, 0/s"},
		{2 * time.Second, 500, "500 records, 200/s"},
		{2500 * time.Millisecond, 500, "500 records, 200/s"},
		{4 * time.Second, 500, "500 records, 0/s"},
		{5 * time.Second, 10, "10 records, 0/s"}, // restarted
		{6 * time.Second, 60, "60 records, 50/s"},
	} {
		if got := v.rate(c.records, at.Add(c.after)); got != c.want {
			t.Errorf("after %s: %q, want %q", c.after, got, c.want)
		}
	}
}
