package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
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

Flags:
`

// JobManager runs a job manager until ctx ends. The ready line goes to stdout, logs to stderr.
func JobManager(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, at, err := jobManagerConfig(args, stderr)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	grpcListener, err := net.Listen("tcp", at.grpc)
	if err != nil {
		return fmt.Errorf("listen for gRPC: %w", err)
	}
	defer grpcListener.Close()
	admin := kafka.NewAdmin(cfg.Logger)
	defer admin.Close()
	m, err := jobmanager.Open(cfg, admin, expression.Checker{})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	httpAddr := ""
	if at.http != "" {
		l, err := net.Listen("tcp", at.http)
		if err != nil {
			return errors.Join(fmt.Errorf("listen for http: %w", err), m.Close())
		}
		httpAddr = l.Addr().String()
		g.Go(func() error { return web.Serve(ctx, l, web.Handler(m, web.MetricsHandler(m.Metrics()))) })
	}
	g.Go(func() error { return m.Run(ctx, grpcListener) })
	fmt.Fprintf(stdout, "ready jobmanager grpc=%s http=%s\n", grpcListener.Addr(), httpAddr)
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, m.Close())
}

// jobManagerListen is where the job manager listens.
type jobManagerListen struct {
	grpc, http string
	insecure   bool
}

func jobManagerConfig(args []string, stderr io.Writer) (jobmanager.Config, jobManagerListen, error) {
	cfg, at := jobmanager.DefaultConfig(), jobManagerListen{grpc: "127.0.0.1:6123", http: "127.0.0.1:8081"}
	fs := pflag.NewFlagSet("jobmanager", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, jobManagerUsage, fs.FlagUsages()) }
	level := "info"
	var tlsFiles TLSFiles
	fs.StringVar(&at.grpc, "listen", at.grpc, "gRPC address, for task managers and clients")
	fs.StringVar(&at.http, "http", at.http, "address of the HTTP API and the metrics; empty: none")
	fs.StringVar(&cfg.DataDir, "data-dir", cfg.DataDir, "directory of the database and the state files, on a local disk")
	fs.DurationVar(&cfg.HeartbeatInterval, "heartbeat-interval", cfg.HeartbeatInterval, "how often task managers show that they live")
	fs.DurationVar(&cfg.HeartbeatTimeout, "heartbeat-timeout", cfg.HeartbeatTimeout, "silence after which a task manager counts as lost")
	fs.BoolVar(&at.insecure, "insecure", false, "allow listening outside of loopback without TLS")
	fs.StringVar(&level, "log-level", level, "debug, info, warn or error")
	tlsFiles.AddFlags(fs)
	if err := parse(fs, args, os.LookupEnv); err != nil {
		return cfg, at, err
	}
	var err error
	if cfg.Logger, err = logger(stderr, level); err != nil {
		return cfg, at, err
	}
	if cfg.TLS, _, err = tlsFiles.Load(); err != nil {
		return cfg, at, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, at, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return cfg, at, errors.Join(checkListen("listen", at.grpc, cfg.TLS != nil || at.insecure), checkListen("http", at.http, at.insecure))
}
