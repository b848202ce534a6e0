package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

func (c *cli) validateCommand() *cobra.Command {
	var sets []string
	cmd := &cobra.Command{
		Use: "validate FILE", Short: "Check a job file without submitting it", GroupID: "jobs", Args: exactly("FILE"), ValidArgsFunction: completeFile,
		Long:    "Check a job file: syntax, names, expressions, Kafka properties. All errors are shown at once, with line and column. No broker is asked; submit does that.",
		Example: "  sluice validate job.yaml\n  sluice validate job.yaml --set parallelism=4",
		RunE: func(_ *cobra.Command, args []string) error {
			job, err := c.load(args[0], sets)
			if err != nil {
				return err
			}
			plan, err := planOf(job)
			if err != nil {
				return err
			}
			if c.output == outputJSON {
				return c.printJSON(map[string]any{"name": job.Name, "vertices": len(plan.Vertices), "slots": plan.Slots, "valid": true})
			}
			fmt.Fprintf(c.stdout, "%s is valid: job %s, %s, needs %s\n", args[0], job.Name, counted(len(plan.Vertices), "vertex", "vertices"), counted(plan.Slots, "slot", "slots"))
			return nil
		},
	}
	setFlag(cmd, &sets)
	return cmd
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func setFlag(cmd *cobra.Command, sets *[]string) {
	cmd.Flags().StringArrayVar(sets, "set", nil, "override a value of the file, as `path=value` (sources.orders.parallelism=4); repeatable")
}

func (c *cli) submitCommand() *cobra.Command {
	var sets []string
	req := &pb.SubmitRequest{}
	wait := false
	cmd := &cobra.Command{
		Use: "submit FILE", Short: "Submit a job to the cluster", GroupID: "jobs", Args: exactly("FILE"), ValidArgsFunction: completeFile,
		Long: `Check a job file, submit it as a typed graph, and start it from its start offsets or from a
checkpoint of a job that has ended. The job manager asks the brokers of the job first.
With --wait the job is followed to its end, also when the job manager is restarted; Ctrl-C
then ends the following, not the job.`,
		Example: `  sluice submit job.yaml
  sluice submit job.yaml --wait                       # follow it to its end
  sluice submit job.yaml --set parallelism=8
  sluice submit job.yaml --from-checkpoint 4f1c…/41   # go on where another job ended`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkpointGiven(cmd, req.GetFromCheckpoint()); err != nil {
				return err
			}
			job, err := c.load(args[0], sets)
			if err != nil {
				return err
			}
			req.Job = wire.JobToProto(job)
			return c.withClient(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				call, cancel := context.WithTimeout(ctx, callTimeout)
				defer cancel()
				resp, err := client.Submit(call, req)
				if err != nil {
					return err
				}
				for _, w := range resp.GetWarnings() {
					fmt.Fprintln(c.stderr, "warning:", w)
				}
				if wait {
					if err := c.follow(ctx, client, resp.GetJobId()); !errors.Is(err, errNotFollowing) {
						return err
					}
					return &exitError{exitFailed, fmt.Errorf("no longer following; job %s goes on (`sluice job %s` shows it)", job.Name, resp.GetJobId())}
				}
				if c.output == outputJSON {
					return c.printJSON(map[string]string{"id": resp.GetJobId(), "name": job.Name})
				}
				fmt.Fprintf(c.stdout, "submitted %s as %s\n", job.Name, resp.GetJobId())
				return nil
			})
		},
	}
	setFlag(cmd, &sets)
	cmd.Flags().BoolVar(&wait, "wait", false, "follow the job until it ends; the exit code tells how")
	cmd.Flags().StringVar(&req.FromCheckpoint, fromCheckpoint, "", "start from checkpoint `JOBID/N` of a job that has ended")
	allowDroppedFlag(cmd, req)
	return cmd
}

const fromCheckpoint = "from-checkpoint"

func allowDroppedFlag(cmd *cobra.Command, req *pb.SubmitRequest) {
	cmd.Flags().BoolVar(&req.AllowDroppedState, "allow-dropped-state", false, "drop the state of operators that the job no longer has")
}

// checkpointGiven refuses a --from-checkpoint that names none. An empty one is most likely a variable of a script that is not
// set: without the flag the job begins anew.
func checkpointGiven(cmd *cobra.Command, value string) error {
	if !cmd.Flags().Changed(fromCheckpoint) {
		return nil
	}
	if _, _, err := ident.ParseCheckpoint(value); err != nil {
		return usageError("--%s: %w; leave the flag out to begin anew", fromCheckpoint, err)
	}
	return nil
}

func (c *cli) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel NAME|ID", Short: "End a job at once, without a final checkpoint", GroupID: "jobs", Args: exactly("NAME|ID"), ValidArgsFunction: c.completeJobs,
		Long:    "End a job at once. Output since the last checkpoint is aborted by exactly-once sinks; others have written it, and write it again if a job goes on from that checkpoint.",
		Example: "  sluice cancel orders\n  sluice cancel 4f1c2b3a4d5e6f70",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.Cancel(ctx, &pb.CancelRequest{Job: args[0]})
				if err != nil {
					return err
				}
				return c.asked("cancel", resp.GetJobId())
			})
		},
	}
}

func (c *cli) stopCommand() *cobra.Command {
	drain := false
	cmd := &cobra.Command{
		Use: "stop NAME|ID", Short: "End a job with a final checkpoint", GroupID: "jobs", Args: exactly("NAME|ID"), ValidArgsFunction: c.completeJobs,
		Long:    "Draw a final checkpoint, after which the sources read nothing more, and end the job. Resume with submit --from-checkpoint.",
		Example: "  sluice stop orders\n  sluice stop orders --drain     # send the end of the data through the job first",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.Stop(ctx, &pb.StopRequest{Job: args[0], Drain: drain})
				if err != nil {
					return err
				}
				return c.asked("stop", resp.GetJobId())
			})
		},
	}
	cmd.Flags().BoolVar(&drain, "drain", false, "send the end of data through the job before the final checkpoint")
	return cmd
}

func (c *cli) asked(what, id string) error {
	if c.output == outputJSON {
		return c.printJSON(map[string]string{"id": id, "requested": what})
	}
	fmt.Fprintf(c.stdout, "%s of job %s requested; follow it with `sluice job %s`\n", what, id, id)
	return nil
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", GroupID: "cluster", Args: exactly(), ValidArgsFunction: cobra.NoFileCompletions,
		Long:    "Print the version and revision of this program and the version of the protocol, which job manager and task managers must share.",
		Example: "  sluice version\n  sluice version -o json",
		RunE: func(*cobra.Command, []string) error {
			version, revision := "unknown", ""
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = s.Value
					}
				}
			}
			if c.output == outputJSON {
				return c.printJSON(map[string]any{"version": version, "revision": revision, "protocol": wire.ProtocolVersion})
			}
			fmt.Fprintf(c.stdout, "sluice %s%s, protocol %d\n", version, prefixed(" ", revision), wire.ProtocolVersion)
			return nil
		},
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usageError("read job file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, graph.MaxSpecBytes+1))
	if err != nil {
		return nil, usageError("read job file: %w", err)
	}
	return data, nil
}
