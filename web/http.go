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
	Lag(ctx context.Context, nameOrID string) (Lag, error)
	Explain(ctx context.Context, nameOrID string) (Explanation, error)
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
	mux.HandleFunc("GET /v1/jobs/{name}/lag", func(w http.ResponseWriter, r *http.Request) {
		lag, err := c.Lag(r.Context(), r.PathValue("name"))
		answer(w, lag, err)
	})
	mux.HandleFunc("GET /v1/jobs/{name}/explain", func(w http.ResponseWriter, r *http.Request) {
		explanation, err := c.Explain(r.Context(), r.PathValue("name"))
		answer(w, explanation, err)
	})
	mux.HandleFunc("GET /v1/taskmanagers", func(w http.ResponseWriter, r *http.Request) {
		list, err := c.TaskManagers(r.Context())
		answer(w, list, err)
	})
	if metrics != nil {
		mux.Handle("GET /metrics", metrics)
	}
	return orJSON(mux)
}

// orJSON answers what mux does not know, or knows with another method, as everything else: in JSON.
func orJSON(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		refused := &refusal{header: http.Header{}, status: http.StatusNotFound}
		h.ServeHTTP(refused, r)
		text := "no such page: " + r.URL.Path
		if allow := refused.header.Get("Allow"); allow != "" {
			w.Header().Set("Allow", allow)
			text = fmt.Sprintf("%s is not allowed on %s, only %s: jobs are submitted and ended by gRPC", r.Method, r.URL.Path, allow)
		}
		write(w, refused.status, map[string]string{"error": text, "code": http.StatusText(refused.status)})
	})
}

// refusal takes what mux would have answered, without the text.
type refusal struct {
	header http.Header
	status int
}

// Header is http.ResponseWriter's.
func (r *refusal) Header() http.Header { return r.header }

// WriteHeader is http.ResponseWriter's.
func (r *refusal) WriteHeader(status int) { r.status = status }

// Write is http.ResponseWriter's.
func (r *refusal) Write(p []byte) (int, error) { return len(p), nil }

func answer(w http.ResponseWriter, v any, err error) {
	if err == nil {
		write(w, http.StatusOK, v)
		return
	}
	st := status.Convert(err)
	write(w, httpStatus(st.Code()), map[string]string{"error": st.Message(), "code": st.Code().String()})
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
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
	case codes.AlreadyExists, codes.FailedPrecondition:
		return http.StatusConflict
	case codes.Unavailable, codes.Canceled:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
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
