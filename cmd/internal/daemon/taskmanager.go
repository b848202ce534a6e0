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
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/taskmanager"
	"github.com/sluice-stream/sluice/web"
)

const taskManagerUsage = `Run a task manager: slots in which the subtasks of jobs run.

Usage:
  taskmanager [--config F] [--jobmanager HOST:6123] [--id NAME] [--slots N]

Examples:
  taskmanager --jobmanager 10.0.0.1:6123 --id tm-1 --slots 4 --data-listen 10.0.0.2:6124 \
      --tls-cert tm-1.pem --tls-key tm-1.key --tls-ca ca.pem
  SLUICE_SLOTS=2 taskmanager        # every flag is also an environment variable and a key of --config

Flags:
`

// TaskManager runs a task manager until ctx ends. Print sinks write to stdout, as does the ready line;
// logs go to stderr.
func TaskManager(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, httpAddr, err := taskManagerConfig(args, stderr)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	cfg.Output = stdout
	connections := kafka.NewConnections(cfg.Logger)
	defer connections.Close()
	tm, err := taskmanager.New(cfg, &kafkaConnectors{connections, cfg.Logger}, expression.Checker{})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	if httpAddr != "" {
		l, err := net.Listen("tcp", httpAddr)
		if err != nil {
			return fmt.Errorf("listen for http: %w", err)
		}
		tm.SetHTTPAddress(l.Addr().String())
		g.Go(func() error { return web.Serve(ctx, l, web.MetricsHandler(tm.Metrics())) })
	}
	g.Go(func() error {
		return tm.Run(ctx, func(data string) {
			fmt.Fprintf(stdout, "ready taskmanager id=%s data=%s http=%s\n", cfg.ID, data, tm.HTTPAddress())
		})
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func taskManagerConfig(args []string, stderr io.Writer) (taskmanager.Config, string, error) {
	cfg := taskmanager.DefaultConfig()
	httpAddr, allowInsecure := "127.0.0.1:0", false
	fs := pflag.NewFlagSet("taskmanager", pflag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { fmt.Fprint(stderr, taskManagerUsage, fs.FlagUsages()) }
	id, level := string(cfg.ID), "info"
	var tlsFiles TLSFiles
	fs.StringVar(&cfg.JobManager, "jobmanager", cfg.JobManager, "address of the job manager")
	fs.StringVar(&id, "id", id, "stable name of this task manager; unique in the cluster")
	fs.IntVar(&cfg.Slots, "slots", cfg.Slots, "slots: how many subtasks of a vertex can run here at once")
	fs.StringVar(&cfg.DataListen, "data-listen", cfg.DataListen, "address for the other task managers; port 0 picks one")
	fs.StringVar(&cfg.DataAdvertise, "data-advertise", "", "address that the others are told, if it is not the one listened on")
	fs.StringVar(&httpAddr, "http", httpAddr, "address of /metrics and /healthz; empty: none")
	fs.StringVar(&cfg.WorkDir, "work-dir", cfg.WorkDir, "directory for temporary files")
	fs.BoolVar(&allowInsecure, "insecure", false, "allow listening outside of loopback without TLS")
	fs.StringVar(&level, "log-level", level, "debug, info, warn or error")
	tlsFiles.AddFlags(fs)
	if err := parse(fs, args, os.LookupEnv); err != nil {
		return cfg, "", err
	}
	var err error
	cfg.ID = ident.WorkerID(id)
	if cfg.Logger, err = logger(stderr, level); err != nil {
		return cfg, "", err
	}
	if cfg.ServerTLS, cfg.ClientTLS, err = tlsFiles.Load(); err != nil {
		return cfg, "", err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, "", fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return cfg, httpAddr, errors.Join(checkListen("data-listen", cfg.DataListen, cfg.ServerTLS != nil || allowInsecure), checkListen("http", httpAddr, allowInsecure))
}
