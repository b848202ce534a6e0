// Package taskmanager is the shell of a task manager: its session to the job manager, the attempts that
// it runs in its slots, and the transfer of their state.
package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/sluice-stream/sluice/ident"
)

// Config is what an operator sets for one task manager.
type Config struct {
	// JobManager is the address, host:port, of the job manager.
	JobManager string
	// ID is the stable name of this task manager.
	ID ident.WorkerID
	// Slots is how many subtasks of a vertex can run here at the same time, 1 to 1024.
	Slots int
	// DataListen is where other task managers connect to; port 0 picks a free one.
	DataListen string
	// DataAdvertise is the address that the others are told; empty: the one listened on, with TLS by the host
	// name of DataListen if it has one.
	DataAdvertise string
	// WorkDir is made at the start if it is not there; nothing is written to it yet.
	WorkDir string
	// ClientTLS and ServerTLS are nil for plaintext.
	ClientTLS, ServerTLS credentials.TransportCredentials
	// CancelTimeout is how long an attempt may take to end before the process gives up and exits, so that
	// its slots and connections are certainly free.
	CancelTimeout time.Duration
	// Output takes what print sinks write.
	Output io.Writer
	Logger *slog.Logger

	// Dial, Listen and Clock replace TCP and CLOCK_BOOTTIME, for tests; nil: the real ones. Dial is used for
	// the job manager and for other task managers, Clock for the lease.
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Listen func(address string) (net.Listener, error)
	Clock  func() time.Duration
}

// DefaultConfig has every default; JobManager is the local one.
func DefaultConfig() Config {
	host, err := os.Hostname()
	if err != nil || ident.CheckName(host) != nil {
		host = "tm"
	}
	return Config{
		JobManager: "127.0.0.1:6123", ID: ident.WorkerID(fmt.Sprintf("%s-%d", host, os.Getpid())), Slots: 2,
		DataListen: "127.0.0.1:0", WorkDir: os.TempDir(), CancelTimeout: 30 * time.Second,
		Output: os.Stdout, Logger: slog.Default(),
	}
}

// Validate names every setting that is wrong.
func (c *Config) Validate() error {
	var errs []error
	if err := ident.CheckName(string(c.ID)); err != nil {
		errs = append(errs, fmt.Errorf("id: %w", err))
	}
	if c.Slots < 1 || c.Slots > 1024 {
		errs = append(errs, fmt.Errorf("slots: %d is not in 1..1024", c.Slots))
	}
	if _, _, err := net.SplitHostPort(c.JobManager); err != nil {
		errs = append(errs, fmt.Errorf("jobmanager: %q is not HOST:PORT", c.JobManager))
	}
	return errors.Join(errs...)
}

// advertised is the address that the others are told of a listener. With TLS a host name stays one, as the certificate may hold
// nothing else.
func (c *Config) advertised(is net.Addr) string {
	host, _, err := net.SplitHostPort(c.DataListen)
	_, port, errOfAddr := net.SplitHostPort(is.String())
	switch {
	case c.DataAdvertise != "":
		return c.DataAdvertise
	case c.ServerTLS == nil, err != nil, errOfAddr != nil, host == "", net.ParseIP(host) != nil:
		return is.String()
	default:
		return net.JoinHostPort(host, port)
	}
}
