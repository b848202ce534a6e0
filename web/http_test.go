package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fakeCluster has one job, "orders", and fails in the way that the name of a job says.
type fakeCluster struct{}

func (fakeCluster) Jobs(context.Context) ([]Job, error) { return []Job{{Name: "orders"}}, nil }

func (fakeCluster) Job(_ context.Context, name string) (Job, error) {
	switch name {
	case "orders":
		return Job{ID: "1", Name: "orders", Vertices: []Vertex{}, Waiting: []string{}}, nil
	case "bad":
		return Job{}, status.Error(codes.InvalidArgument, "bad name")
	case "away":
		return Job{}, status.Error(codes.Unavailable, "ending")
	case "broken":
		return Job{}, status.Error(codes.Internal, "disk")
	}
	return Job{}, status.Errorf(codes.NotFound, "job %q: no such job", name)
}

func (fakeCluster) Checkpoints(_ context.Context, name string) ([]Checkpoint, error) {
	if name != "orders" {
		return nil, status.Error(codes.NotFound, "no such job")
	}
	return []Checkpoint{{ID: 1 << 60}}, nil
}

func (f fakeCluster) Lag(ctx context.Context, name string) (Lag, error) {
	job, err := f.Job(ctx, name)
	end := int64(1 << 60)
	return Lag{Name: job.Name, Partitions: []PartitionLag{{Topic: "in", End: &end, Note: "why"}}}, err
}

func (f fakeCluster) Explain(ctx context.Context, name string) (Explanation, error) {
	job, err := f.Job(ctx, name)
	return Explanation{Name: job.Name, Findings: []Finding{{Subject: "state", Level: "ok", Text: "It runs."}}}, err
}

func (fakeCluster) TaskManagers(context.Context) ([]TaskManager, error) { return []TaskManager{}, nil }

func get(t *testing.T, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("sluice_up 1\n")) })
	rec := httptest.NewRecorder()
	Handler(fakeCluster{}, metrics).ServeHTTP(rec, httptest.NewRequest(method, path, strings.NewReader("{}")))
	return rec
}

func TestHandlerAnswersInJSON(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		has          string
	}{
		{"GET", "/v1/jobs", 200, `"name": "orders"`},
		{"HEAD", "/v1/jobs", 200, ""},
		{"GET", "/v1/jobs/orders", 200, `"id": "1"`},
		{"GET", "/v1/jobs/orders/checkpoints", 200, `"id": 1152921504606846976`},
		{"GET", "/v1/jobs/orders/lag", 200, `"end": 1152921504606846976`},
		{"GET", "/v1/jobs/orders/lag", 200, `"position": null`},
		{"GET", "/v1/jobs/orders/explain", 200, `"text": "It runs."`},
		{"GET", "/v1/jobs/other/lag", 404, `"code": "NotFound"`},
		{"GET", "/v1/jobs/other/explain", 404, `"code": "NotFound"`},
		{"POST", "/v1/jobs/orders/explain", 405, "POST is not allowed"},
		{"GET", "/v1/taskmanagers", 200, "[]"},
		{"GET", "/v1/jobs/other", 404, `"code": "NotFound"`},
		{"GET", "/v1/jobs/other/checkpoints", 404, `"error": "no such job"`},
		{"GET", "/v1/jobs/bad", 400, `"error": "bad name"`},
		{"GET", "/v1/jobs/away", 503, "ending"},
		{"GET", "/v1/jobs/broken", 500, "disk"},
		{"GET", "/v1/jobs/orders/", 404, "no such page: /v1/jobs/orders/"},
		{"GET", "/", 404, "no such page: /"},
		{"POST", "/v1/jobs", 405, "POST is not allowed on /v1/jobs, only GET, HEAD"},
		{"DELETE", "/v1/jobs/orders", 405, "DELETE is not allowed"},
		{"POST", "/metrics", 405, "POST is not allowed"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			rec := get(t, c.method, c.path)
			if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.has) {
				t.Errorf("got %d %s, want %d with %s", rec.Code, rec.Body, c.status, c.has)
			}
			if got := rec.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("content type %q", got)
			}
			if c.status == http.StatusMethodNotAllowed && rec.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow is %q", rec.Header().Get("Allow"))
			}
			if !json.Valid(rec.Body.Bytes()) {
				t.Errorf("not JSON: %s", rec.Body)
			}
		})
	}
}

func TestHandlerServesHealthAndMetricsAsText(t *testing.T) {
	for path, want := range map[string]string{"/healthz": "ok\n", "/metrics": "sluice_up 1\n"} {
		if rec := get(t, "GET", path); rec.Code != 200 || rec.Body.String() != want {
			t.Errorf("%s: got %d %q, want 200 %q", path, rec.Code, rec.Body, want)
		}
	}
}
