package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/jobmanager"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/web"
)

const jobManagerUsage = `Run the job manager: it schedules jobs into the slots of task managers, draws
checkpoints and restarts jobs.

Usage:
  jobmanager [--config F] [--listen 127.0.0.1:6123] [--http 127.0.0.1:8081] [--data-dir DIR]

Examples:
  jobmanager --data-dir /var/lib/sluice
  jobmanager --listen 10.0.0.1:6123 --tls-cert jm.pem --tls-key jm.key --tls-ca ca.pem
  SLUICE_DATA_DIR=/var/lib/sluice jobmanager     # every flag is also an environment variable
  jobmanager --config jobmanager.yaml            # and a key of the configuration file

Flags:
`

// JobManager runs a job manager until ctx ends. The ready line goes to Stdout, logs to Stderr.
func JobManager(ctx context.Context, p Process) error {
	cfg, at, err := jobManagerConfig(p)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if at.decisionLog != "" {
		f, err := os.OpenFile(at.decisionLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("decision-log: %w", err)
		}
		defer f.Close()
		cfg.DecisionLog = f
	}
	admin := kafka.NewAdmin(cfg.Logger)
	defer admin.Close()
	// The directory comes first: a second job manager on it is told whose it is, not that a port is taken.
	m, err := jobmanager.Open(cfg, admin, expression.Checker{})
	if err != nil {
		return err
	}
	return errors.Join(serveJobManager(ctx, m, at, cfg.Logger, p.Stdout), m.Close())
}

func serveJobManager(ctx context.Context, m *jobmanager.Manager, at jobManagerListen, log *slog.Logger, stdout io.Writer) error {
	grpcListener, err := listen("listen", at.grpc)
	if err != nil {
		return err
	}
	defer grpcListener.Close()
	var httpListener net.Listener
	httpAddr := ""
	if at.http != "" {
		if httpListener, err = listen("http", at.http); err != nil {
			return err
		}
		httpAddr = httpListener.Addr().String()
	}
	g, ctx := errgroup.WithContext(ctx)
	if httpListener != nil {
		handler := profiled(at.pprof, web.Handler(m, web.MetricsHandler(m.Metrics())))
		g.Go(func() error { return web.Serve(ctx, httpListener, handler) })
	}
	g.Go(func() error { return m.Run(ctx, grpcListener) })
	g.Go(logEnd(ctx, log))
	fmt.Fprintf(stdout, "ready jobmanager grpc=%s http=%s\n", grpcListener.Addr(), httpAddr)
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// jobManagerListen is where the job manager listens, and what else is not its core's business.
type jobManagerListen struct {
	grpc, http  string
	insecure    bool
	pprof       bool
	decisionLog string // a file
}

func jobManagerConfig(p Process) (jobmanager.Config, jobManagerListen, error) {
	cfg, at := jobmanager.DefaultConfig(), jobManagerListen{grpc: "127.0.0.1:6123", http: "127.0.0.1:8081"}
	fs := pflag.NewFlagSet("jobmanager", pflag.ContinueOnError)
	fs.SetOutput(p.Stderr)
	fs.Usage = func() { fmt.Fprint(p.Stdout, jobManagerUsage, fs.FlagUsages()) }
	level := "info"
	var tlsFiles TLSFiles
	fs.StringVar(&at.grpc, "listen", at.grpc, "gRPC `HOST:PORT`, for task managers and clients")
	fs.StringVar(&at.http, "http", at.http, "`HOST:PORT` of the HTTP API and the metrics; empty: none")
	fs.StringVar(&cfg.DataDir, "data-dir", cfg.DataDir, "`DIR` of the database and the state files, on a local disk")
	fs.DurationVar(&cfg.HeartbeatInterval, "heartbeat-interval", cfg.HeartbeatInterval, "how often task managers show that they live")
	fs.DurationVar(&cfg.HeartbeatTimeout, "heartbeat-timeout", cfg.HeartbeatTimeout, "silence after which a task manager counts as lost")
	fs.IntVar(&cfg.KeepEndedJobs, "keep-ended-jobs", cfg.KeepEndedJobs, "keep the latest `N` jobs that finished and, apart from them, the latest N that ended otherwise; older ones are dropped with their checkpoints; 0: keep all")
	fs.StringVar(&at.decisionLog, "decision-log", "", "`FILE` to which every decision about checkpoints and transactions is appended, a JSON object a line; empty: none")
	fs.BoolVar(&at.pprof, "pprof", false, pprofUsage)
	fs.BoolVar(&at.insecure, "insecure", false, "allow listening outside of loopback without TLS")
	fs.StringVar(&level, "log-level", level, "`LEVEL` of the log: debug, info, warn or error")
	tlsFiles.AddFlags(fs)
	if err := parse(fs, p); err != nil {
		return cfg, at, err
	}
	var err error
	if cfg.Logger, err = logger(p.Stderr, level); err != nil {
		return cfg, at, err
	}
	if cfg.TLS, _, err = tlsFiles.Load(); err != nil {
		return cfg, at, err
	}
	cfg.TLS = logHandshakes(cfg.TLS, cfg.Logger)
	return cfg, at, errors.Join(usage(cfg.Validate()), checkListen("listen", at.grpc, cfg.TLS != nil, at.insecure), checkListen("http", at.http, false, at.insecure))
}
