package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Cluster is what the HTTP API shows. Errors are gRPC status errors.
type Cluster interface {
	Jobs(ctx context.Context) ([]Job, error)
	Job(ctx context.Context, nameOrID string) (Job, error)
	Checkpoints(ctx context.Context, nameOrID string) ([]Checkpoint, error)
	TaskManagers(ctx context.Context) ([]TaskManager, error)
}

// Handler serves the HTTP API of DESIGN 8.3. metrics may be nil.
func Handler(c Cluster, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		jobs, err := c.Jobs(r.Context())
		answer(w, jobs, err)
	})
	mux.HandleFunc("GET /v1/jobs/{name}", func(w http.ResponseWriter, r *http.Request) {
		job, err := c.Job(r.Context(), r.PathValue("name"))
		answer(w, job, err)
	})
	mux.HandleFunc("GET /v1/jobs/{name}/checkpoints", func(w http.ResponseWriter, r *http.Request) {
		list, err := c.Checkpoints(r.Context(), r.PathValue("name"))
		answer(w, list, err)
	})
	mux.HandleFunc("GET /v1/taskmanagers", func(w http.ResponseWriter, r *http.Request) {
		list, err := c.TaskManagers(r.Context())
		answer(w, list, err)
	})
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	return mux
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err != nil {
		st := status.Convert(err)
		w.WriteHeader(httpStatus(st.Code()))
		v = map[string]string{"error": st.Message(), "code": st.Code().String()}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	_ = enc.Encode(v) // the client is gone; nobody is left to tell
}

func httpStatus(c codes.Code) int {
	switch c {
	case codes.NotFound:
		return http.StatusNotFound
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Serve runs an HTTP server on l until ctx ends, then lets requests in flight finish for at most a second.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(l)
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http on %s: %w", l.Addr(), err)
	}
	<-stopped
	return nil
}
