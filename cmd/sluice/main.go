// Command sluice is the command line of Sluice: it validates, submits, shows and ends jobs, runs a whole
// cluster in one process, and demonstrates one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
)

// The exit codes of DESIGN 8.1.
const (
	exitFailed       = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitJobFailed    = 4
	exitJobDataLoss  = 5
	outputTable      = "table"
	outputJSON       = "json"
	envJobManager    = "SLUICE_JOBMANAGER"
	defaultJobManger = "127.0.0.1:6123"
)

// exitError carries the exit code of an outcome that has been told already or is told by its text.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") { // cobra has no type for it
		err = usageError("%w; see `sluice --help`", err)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "error:", message(err))
	return exitCode(err)
}

func message(err error) string {
	var exit *exitError
	if st, ok := status.FromError(err); ok && !errors.As(err, &exit) {
		return st.Message()
	}
	return err.Error()
}

func exitCode(err error) int {
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	if errors.Is(err, daemon.ErrUsage) {
		return exitUsage
	}
	switch status.Code(err) {
	case codes.NotFound:
		return exitNotFound
	case codes.InvalidArgument, codes.AlreadyExists, codes.FailedPrecondition:
		return exitUsage
	}
	return exitFailed
}

// cli is what all commands share.
type cli struct {
	jobManager string
	output     string
	tls        daemon.TLSFiles
	stdout     io.Writer
	stderr     io.Writer
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	c := &cli{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Run Kafka-to-Kafka stream jobs on a cluster of plain machines",
		Long: `sluice submits, shows and ends stream jobs that read from Kafka and write to Kafka.

Exit codes: 0 done; 1 failed; 2 bad usage or invalid job file; 3 not found;
4 the job ended FAILED; 5 the job ended FAILED_DATA_LOSS.`,
		Example: `  sluice demo                          # see it work, no Kafka needed
  sluice run job.yaml                  # a whole cluster in this process
  sluice submit job.yaml --wait        # to a running cluster
  sluice job orders -o json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if c.output != outputTable && c.output != outputJSON {
				return usageError("-o %q: want table or json", c.output)
			}
			return nil
		},
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see `%s --help`", err, cmd.CommandPath())
	})
	addr := defaultJobManger
	if v := os.Getenv(envJobManager); v != "" {
		addr = v
	}
	root.PersistentFlags().StringVar(&c.jobManager, "jobmanager", addr, "address of the job manager (environment "+envJobManager+")")
	root.PersistentFlags().StringVarP(&c.output, "output", "o", outputTable, "table for people, json for programs")
	c.tls.AddFlags(root.PersistentFlags())
	root.AddGroup(&cobra.Group{ID: "jobs", Title: "Jobs:"}, &cobra.Group{ID: "cluster", Title: "Cluster:"}, &cobra.Group{ID: "try", Title: "Try it:"})
	root.AddCommand(
		c.validateCommand(), c.submitCommand(), c.jobsCommand(), c.jobCommand(), c.checkpointsCommand(), c.cancelCommand(), c.stopCommand(),
		c.taskManagersCommand(), c.runCommand(), c.demoCommand(), c.versionCommand(),
		daemonCommand("jobmanager", daemon.JobManager, stdout, stderr), daemonCommand("taskmanager", daemon.TaskManager, stdout, stderr),
	)
	return root
}

// daemonCommand is a daemon inside this binary, for sluice demo, which must not depend on where the other
// binaries are.
func daemonCommand(name string, run func(context.Context, []string, io.Writer, io.Writer) error, stdout, stderr io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE:              func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args, stdout, stderr) },
	}
}

// exactly is cobra.ExactArgs with an error that says what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError("%s takes %s; got %d arguments; see `%s --help`", cmd.Name(), listOf(names), len(args), cmd.CommandPath())
		}
		return nil
	}
}

func listOf(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return fmt.Sprint(names)
}
