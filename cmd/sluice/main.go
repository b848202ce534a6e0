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
	"github.com/spf13/pflag"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
)

// The exit codes of DESIGN 8.1.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitJobFailed   = 4
	exitJobDataLoss = 5
)

const (
	outputTable       = "table"
	outputJSON        = "json"
	defaultJobManager = "127.0.0.1:6123"
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
	code := run(ctx, daemon.Process{Args: os.Args[1:], LookupEnv: os.LookupEnv, Stdout: os.Stdout, Stderr: os.Stderr})
	stop()
	os.Exit(code)
}

func run(ctx context.Context, p daemon.Process) int {
	root := newRoot(p)
	root.SetArgs(p.Args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if name, ok := strings.CutPrefix(err.Error(), `unknown command "`); ok { // cobra has no type for it
		err = unknownCommand(root, strings.TrimSuffix(strings.SplitN(name, `" for "`, 2)[0], `"`))
	}
	fmt.Fprintln(p.Stderr, "error:", message(err))
	return exitCode(err)
}

func unknownCommand(root *cobra.Command, name string) error {
	near := ""
	if names := root.SuggestionsFor(name); len(names) > 0 {
		near = "; did you mean " + strings.Join(names, " or ") + "?"
	}
	return usageError("unknown command %q%s; `sluice --help` lists all", name, near)
}

func message(err error) string {
	var exit *exitError
	if st, ok := status.FromError(err); ok && !errors.As(err, &exit) {
		return st.Message()
	}
	return daemon.Message(err)
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
	case codes.InvalidArgument, codes.AlreadyExists:
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
	lookupEnv  func(string) (string, bool)
}

func newRoot(p daemon.Process) *cobra.Command {
	c := &cli{stdout: p.Stdout, stderr: p.Stderr, lookupEnv: p.LookupEnv}
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Run Kafka-to-Kafka stream jobs on a cluster of plain machines",
		Long: `sluice submits, shows and ends stream jobs that read from Kafka and write to Kafka.

Results go to standard output, everything else to standard error. With -o json standard
output is one JSON value and nothing else.

Exit codes: 0 done; 1 failed; 2 bad usage, invalid job file, or a job of that name runs; 3 not found;
4 the job ended FAILED; 5 the job ended FAILED_DATA_LOSS.`,
		Example: `  sluice demo                          # see it work, no Kafka needed
  sluice run job.yaml                  # a whole cluster in this process
  sluice submit job.yaml --wait        # to a running cluster
  sluice job orders -o json
  sluice jobs --jobmanager 10.0.0.1:6123 --tls-cert me.pem --tls-key me.key --tls-ca ca.pem
  source <(sluice completion bash)     # complete commands, flags and names of jobs`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableSuggestions:         true, // unknownCommand has them
		SuggestionsMinimumDistance: 2,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if c.output != outputTable && c.output != outputJSON {
				return usageError("-o %q: want table or json", c.output)
			}
			return c.fromEnvironment(cmd.Flags())
		},
	}
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see `%s --help`", err, cmd.CommandPath())
	})
	c.globalFlags(root)
	root.AddGroup(&cobra.Group{ID: "jobs", Title: "Jobs:"}, &cobra.Group{ID: "cluster", Title: "Cluster:"},
		&cobra.Group{ID: "try", Title: "Try it:"}, &cobra.Group{ID: "more", Title: "More:"})
	root.AddCommand(
		c.validateCommand(), c.submitCommand(), c.jobsCommand(), c.jobCommand(), c.lagCommand(), c.explainCommand(), c.checkpointsCommand(), c.cancelCommand(), c.stopCommand(),
		c.propertiesCommand(), c.offsetsCommand(),
		c.taskManagersCommand(), c.runCommand(), c.demoCommand(), c.versionCommand(),
		daemonCommand("jobmanager", daemon.JobManager, p), daemonCommand("taskmanager", daemon.TaskManager, p),
	)
	completeDefaults(root)
	return root
}

func (c *cli) globalFlags(root *cobra.Command) {
	fs := root.PersistentFlags()
	fs.StringVar(&c.jobManager, "jobmanager", defaultJobManager, "`HOST:PORT` of the job manager (environment SLUICE_JOBMANAGER)")
	fs.StringVarP(&c.output, "output", "o", outputTable, "`table|json`: for people or for programs")
	c.tls.AddFlags(fs)
	// An error here is a flag that does not exist or is completed twice: tests would see it.
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp))
}

// fromEnvironment sets the flags of the connection that were not given; the daemons have the same names.
func (c *cli) fromEnvironment(fs *pflag.FlagSet) error {
	if c.lookupEnv == nil {
		return nil
	}
	for _, name := range []string{"jobmanager", "tls-cert", "tls-key", "tls-ca"} {
		f := fs.Lookup(name)
		if v, ok := c.lookupEnv("SLUICE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))); ok && v != "" && f != nil && !f.Changed {
			if err := f.Value.Set(v); err != nil {
				return usageError("--%s %q: %w", name, v, err)
			}
		}
	}
	return nil
}

// completeDefaults makes cobra's own commands exit like ours when they are misused.
func completeDefaults(root *cobra.Command) {
	root.SetHelpCommandGroupID("more")
	root.SetCompletionCommandGroupID("more")
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		case "help":
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				about, _, err := cmd.Root().Find(args)
				if err != nil {
					return err
				}
				return about.Help()
			}
		}
	}
}

// daemonCommand is a daemon inside this binary, for sluice demo, which must not depend on where the other
// binaries are.
func daemonCommand(name string, run func(context.Context, daemon.Process) error, p daemon.Process) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			p.Args = args
			return run(cmd.Context(), p)
		},
	}
}

// exactly is cobra.ExactArgs with an error that says what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError("%s takes %s; got %s; see `%s --help`", cmd.Name(), listOf(names), given(args), cmd.CommandPath())
		}
		return nil
	}
}

func listOf(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return strings.Join(names, " ")
}

func given(args []string) string {
	if len(args) == 0 {
		return "none"
	}
	return fmt.Sprintf("%q", args)
}
