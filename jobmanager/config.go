// Package jobmanager is the shell of the job manager: sessions of task managers, one loop per job, the
// gRPC services. What is decided is decided in the cores (job, slots, checkpoint); here it is carried out.
package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
)

// Config is what an operator sets for the job manager.
type Config struct {
	// DataDir holds the database, its witness and the state files.
	DataDir string
	// HeartbeatInterval is how often task managers are to show that they live; HeartbeatTimeout is after
	// which silence they count as lost. The timeout is at least three intervals.
	HeartbeatInterval, HeartbeatTimeout time.Duration
	// ResumeWindow is how long a task manager whose stream broke, but whose data port answers, may take to
	// resume its session.
	ResumeWindow time.Duration
	// KeepEndedJobs is how many of the jobs that finished are kept, and as many of those that ended otherwise; 0: all. An
	// older one is dropped with its checkpoints.
	KeepEndedJobs int
	// TLS is nil for plaintext.
	TLS credentials.TransportCredentials
	// DecisionLog takes a JSON object a line for every decision about checkpoints and transactions; nil:
	// none is written.
	DecisionLog io.Writer
	Logger      *slog.Logger

	// Dial replaces TCP for the probes of lost task managers, for tests; nil: TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// StoreHook stops, delays or fails the writes of the store, for tests; nil: nothing is called.
	StoreHook func(boltstore.Step) error
}

// DefaultConfig has every default of DESIGN sections 4 and 8.1.
func DefaultConfig() Config {
	return Config{
		DataDir:           "sluice-data",
		HeartbeatInterval: 500 * time.Millisecond, HeartbeatTimeout: 5 * time.Second, ResumeWindow: 2 * time.Second,
		KeepEndedJobs: 1000,
		Logger:        slog.Default(),
	}
}

// Validate names every setting that is wrong.
func (c *Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("data-dir: is empty; name a directory on a local disk"))
	}
	if c.HeartbeatInterval < 10*time.Millisecond || c.HeartbeatTimeout < 3*c.HeartbeatInterval {
		errs = append(errs, fmt.Errorf("heartbeat: timeout %s must be at least three times the interval %s, which must be at least 10ms",
			c.HeartbeatTimeout, c.HeartbeatInterval))
	}
	if c.KeepEndedJobs < 0 {
		errs = append(errs, fmt.Errorf("keep-ended-jobs: %d is below 0; say how many jobs that have ended are kept, 0 for all", c.KeepEndedJobs))
	}
	return errors.Join(errs...)
}
