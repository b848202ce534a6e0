package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/connector/kafka/routing"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
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

// TaskManager runs a task manager until ctx ends. Print sinks write to Stdout, as does the ready line;
// logs go to Stderr.
func TaskManager(ctx context.Context, p Process) error {
	cfg, at, err := taskManagerConfig(p)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	saveMemory()
	cfg.Output = p.Stdout
	cfg.Listen = func(addr string) (net.Listener, error) { return listen("data-listen", addr) }
	connectors := kafka.NewConnectors(cfg.Logger, func(failed operator.Failed) kafka.Expressions { return routing.Expressions{Failed: failed} })
	defer connectors.Close()
	tm, err := taskmanager.New(cfg, connectors, expression.Checker{})
	if err != nil { // the settings are checked: a later start may find the directory
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if at.http != "" {
		l, err := listen("http", at.http)
		if err != nil {
			return err
		}
		tm.SetHTTPAddress(l.Addr().String())
		handler := profiled(at.pprof, web.MetricsHandler(tm.Metrics()))
		g.Go(func() error { return web.Serve(ctx, l, handler) })
	}
	g.Go(func() error {
		return tm.Run(ctx, func(data string) {
			fmt.Fprintf(p.Stdout, "ready taskmanager id=%s data=%s http=%s\n", cfg.ID, data, tm.HTTPAddress())
		})
	})
	g.Go(logEnd(ctx, cfg.Logger))
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// heapGrowthPercent is how far the heap of a task manager grows over what is live before it is collected. The data path
// allocates nothing per record, so collections are rare: half of Go's usual saves up to a sixth of the memory, for no
// processor time that could be measured.
const heapGrowthPercent = 50

// saveMemory sets the garbage collector of the process, unless GOGC, Go's own variable for it, was set.
func saveMemory() {
	if _, given := os.LookupEnv("GOGC"); !given {
		debug.SetGCPercent(heapGrowthPercent)
	}
}

// taskManagerHTTP is what the task manager serves beside its core.
type taskManagerHTTP struct {
	http     string
	pprof    bool
	insecure bool
}

func taskManagerConfig(p Process) (taskmanager.Config, taskManagerHTTP, error) {
	cfg, at := taskmanager.DefaultConfig(), taskManagerHTTP{http: "127.0.0.1:0"}
	fs := pflag.NewFlagSet("taskmanager", pflag.ContinueOnError)
	fs.SetOutput(p.Stderr)
	fs.Usage = func() { fmt.Fprint(p.Stdout, taskManagerUsage, fs.FlagUsages()) }
	id, level := string(cfg.ID), "info"
	var tlsFiles TLSFiles
	fs.StringVar(&cfg.JobManager, "jobmanager", cfg.JobManager, "`HOST:PORT` of the job manager")
	fs.StringVar(&id, "id", id, "stable `NAME` of this task manager; unique in the cluster")
	fs.IntVar(&cfg.Slots, "slots", cfg.Slots, "slots: how many subtasks of a vertex can run here at once")
	fs.StringVar(&cfg.DataListen, "data-listen", cfg.DataListen, "`HOST:PORT` for the other task managers; port 0 picks one")
	fs.StringVar(&cfg.DataAdvertise, "data-advertise", "", "`HOST:PORT` that the others are told, if it is not the one listened on (with TLS, its host name)")
	fs.StringVar(&at.http, "http", at.http, "`HOST:PORT` of /metrics and /healthz; empty: none")
	fs.StringVar(&cfg.WorkDir, "work-dir", cfg.WorkDir, "`DIR` that is made at the start; nothing is kept there yet")
	fs.BoolVar(&at.pprof, "pprof", false, pprofUsage)
	fs.BoolVar(&at.insecure, "insecure", false, "allow listening outside of loopback without TLS")
	fs.StringVar(&level, "log-level", level, "`LEVEL` of the log: debug, info, warn or error")
	tlsFiles.AddFlags(fs)
	if err := parse(fs, p); err != nil {
		return cfg, at, err
	}
	var err error
	cfg.ID = ident.WorkerID(id)
	if cfg.Logger, err = logger(p.Stderr, level); err != nil {
		return cfg, at, err
	}
	if cfg.ServerTLS, cfg.ClientTLS, err = tlsFiles.Load(); err != nil {
		return cfg, at, err
	}
	cfg.ServerTLS = logHandshakes(cfg.ServerTLS, cfg.Logger)
	return cfg, at, errors.Join(usage(cfg.Validate()), checkListen("data-listen", cfg.DataListen, cfg.ServerTLS != nil, at.insecure),
		checkAdvertise(cfg.DataListen, cfg.DataAdvertise), checkListen("http", at.http, false, at.insecure))
}
