// Package jobmanager is the shell of the job manager: sessions of task managers, one loop per job, the
// gRPC services. What is decided is decided in the cores (job, slots, checkpoint); here it is carried out.
package jobmanager

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// Config is what an operator sets for the job manager.
type Config struct {
	// Listen is the gRPC address, for task managers and clients.
	Listen string
	// HTTP is the address of the HTTP API and the metrics; empty: none.
	HTTP string
	// DataDir holds the database, its witness and the state files.
	DataDir string
	// HeartbeatInterval is how often task managers are to show that they live; HeartbeatTimeout is after
	// which silence they count as lost. The timeout is at least three intervals.
	HeartbeatInterval, HeartbeatTimeout time.Duration
	// ResumeWindow is how long a task manager whose stream broke, but whose data port answers, may take to
	// resume its session.
	ResumeWindow time.Duration
	// Insecure allows listening outside of loopback without TLS.
	Insecure bool
	// TLS is nil for plaintext.
	TLS    credentials.TransportCredentials
	Logger *slog.Logger
}

// DefaultConfig has every default of DESIGN sections 4 and 8.1.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:6123", HTTP: "127.0.0.1:8081", DataDir: "sluice-data",
		HeartbeatInterval: 500 * time.Millisecond, HeartbeatTimeout: 5 * time.Second, ResumeWindow: 2 * time.Second,
		Logger: slog.Default(),
	}
}

// Validate names every setting that is wrong.
func (c *Config) Validate() error {
	var errs []error
	errs = append(errs, checkListen("listen", c.Listen, c.TLS != nil || c.Insecure))
	if c.HTTP != "" {
		errs = append(errs, checkListen("http", c.HTTP, c.Insecure))
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("data-dir: is empty; name a directory on a local disk"))
	}
	if c.HeartbeatInterval < 10*time.Millisecond || c.HeartbeatTimeout < 3*c.HeartbeatInterval {
		errs = append(errs, fmt.Errorf("heartbeat: timeout %s must be at least three times the interval %s, which must be at least 10ms",
			c.HeartbeatTimeout, c.HeartbeatInterval))
	}
	return errors.Join(errs...)
}

// checkListen refuses an address outside of loopback unless it is protected or the operator has said
// that this is meant.
func checkListen(name, addr string, allowed bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %q is not HOST:PORT", name, addr)
	}
	if allowed || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s: %q is not a loopback address and TLS is off: set tls, or pass --insecure if the network is trusted", name, addr)
	}
	return nil
}
