package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/web"
)

func (c *cli) table(header ...any) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(c.stdout)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.AppendHeader(header)
	return t
}

func (c *cli) jobsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "jobs", Short: "List the jobs", GroupID: "jobs", Args: exactly(), Example: "  sluice jobs -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.List(ctx, &pb.ListRequest{})
				if err != nil {
					return err
				}
				jobs := []web.Job{}
				for _, j := range resp.GetJobs() {
					jobs = append(jobs, web.JobFromProto(j))
				}
				if c.output == outputJSON {
					return c.printJSON(jobs)
				}
				t := c.table("NAME", "ID", "STATE", "SINCE", "SLOTS", "CHECKPOINT", "RESTARTS", "WAITS FOR")
				for i := range jobs {
					j := &jobs[i]
					t.AppendRow(table.Row{j.Name, j.ID, j.State, ago(j.StateSince), fmt.Sprintf("%d/%d", j.Slots.Held, j.Slots.Needed), latestOf(j), j.Restarts, waitsFor(j)})
				}
				t.Render()
				return nil
			})
		},
	}
}

func latestOf(j *web.Job) string {
	if j.Checkpoints.Latest == nil {
		return "-"
	}
	return fmt.Sprintf("%d (%s)", j.Checkpoints.Latest.ID, ago(j.Checkpoints.Latest.CompletedAt))
}

func waitsFor(j *web.Job) string {
	if j.Slots.Explain != "" {
		return j.Slots.Explain
	}
	return strings.Join(j.Waiting, "; ")
}

// ago prints the age of a moment, as 12 s, 5 min, 3 h or 2 d.
func ago(t *time.Time) string {
	if t == nil {
		return "-"
	}
	d := time.Since(*t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

func (c *cli) jobCommand() *cobra.Command {
	return &cobra.Command{
		Use: "job NAME|ID", Short: "Show one job: state, slots, subtasks, checkpoints, last failure", GroupID: "jobs", Args: exactly("NAME|ID"),
		Example: "  sluice job orders\n  sluice job orders -o json | jq .checkpoints.latest.offsets",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.Get(ctx, &pb.GetRequest{Job: args[0]})
				if err != nil {
					return err
				}
				job := web.JobFromProto(resp.GetJob())
				if c.output == outputJSON {
					return c.printJSON(job)
				}
				c.printJob(&job)
				return nil
			})
		},
	}
}

func (c *cli) printJob(j *web.Job) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(c.stdout, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("job", "%s (%s)", j.Name, j.ID)
	line("state", "%s since %s, attempt %d, %d restarts", j.State, ago(j.StateSince), j.Attempt, j.Restarts)
	line("slots", "needs %d, has %d, free in the cluster %d", j.Slots.Needed, j.Slots.Held, j.Slots.Free)
	if w := waitsFor(j); w != "" {
		line("waits for", "%s", w)
	}
	if l := j.Checkpoints.Latest; l != nil {
		line("checkpoint", "%d, %s ago, took %d ms, %d bytes; %d completed, %d failed", l.ID, ago(l.CompletedAt), l.DurationMs, l.SizeBytes, j.Checkpoints.Completed, j.Checkpoints.Failed)
	} else {
		line("checkpoint", "none yet; %d failed", j.Checkpoints.Failed)
	}
	if j.Checkpoints.Pending != "" {
		line("", "pending: %s", j.Checkpoints.Pending)
	}
	if f := j.Failure; f != nil {
		line("failure", "%s ago, %s %s: %s", ago(f.At), f.Class, f.Subtask, f.Message)
	}
	fmt.Fprintln(c.stdout)
	t := c.table("SUBTASK", "STATE", "TASK MANAGER", "RECORDS IN", "RECORDS OUT", "LAG", "WAITS FOR")
	for _, v := range j.Vertices {
		for _, s := range v.Subtasks {
			t.AppendRow(table.Row{v.Name + "/" + strconv.Itoa(int(s.Index)), s.State, s.TaskManager, s.RecordsIn, s.RecordsOut, lagOf(s.Lag), s.Waiting})
		}
	}
	t.Render()
}

func lagOf(lag []web.SplitLag) string {
	if len(lag) == 0 {
		return "-"
	}
	var sum int64
	for _, l := range lag {
		if l.Lag < 0 {
			return "unknown"
		}
		sum += l.Lag
	}
	return strconv.FormatInt(sum, 10)
}

func (c *cli) checkpointsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "checkpoints NAME|ID", Short: "List the checkpoints that are kept of a job", GroupID: "jobs", Args: exactly("NAME|ID"),
		Example: "  sluice checkpoints orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.ListCheckpoints(ctx, &pb.ListCheckpointsRequest{Job: args[0]})
				if err != nil {
					return err
				}
				list := []web.Checkpoint{}
				for _, cp := range resp.GetCheckpoints() {
					list = append(list, web.CheckpointFromProto(cp))
				}
				if c.output == outputJSON {
					return c.printJSON(list)
				}
				t := c.table("ID", "ATTEMPT", "COMPLETED", "TOOK", "BYTES", "FINAL", "RESTORE WITH")
				for _, cp := range list {
					t.AppendRow(table.Row{cp.ID, cp.Attempt, ago(cp.CompletedAt) + " ago", fmt.Sprintf("%d ms", cp.DurationMs), cp.SizeBytes, cp.Final,
						fmt.Sprintf("--from-checkpoint %s/%d", resp.GetJobId(), cp.ID)})
				}
				t.Render()
				return nil
			})
		},
	}
}

func (c *cli) taskManagersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "taskmanagers", Short: "List the task managers and their slots", GroupID: "cluster", Args: exactly(), Example: "  sluice taskmanagers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.call(cmd.Context(), func(ctx context.Context, client pb.JobServiceClient) error {
				resp, err := client.ListTaskManagers(ctx, &pb.ListTaskManagersRequest{})
				if err != nil {
					return err
				}
				list := []web.TaskManager{}
				for _, tm := range resp.GetTaskManagers() {
					list = append(list, web.TaskManagerFromProto(tm))
				}
				if c.output == outputJSON {
					return c.printJSON(list)
				}
				t := c.table("ID", "STATE", "SLOTS", "FREE", "DATA", "HTTP", "LAST HEARTBEAT", "JOBS")
				for _, tm := range list {
					t.AppendRow(table.Row{tm.ID, tm.State, tm.Slots, tm.FreeSlots, tm.DataAddress, tm.HTTPAddress, ago(tm.LastHeartbeat) + " ago", strings.Join(tm.Jobs, ", ")})
				}
				t.Render()
				return nil
			})
		},
	}
}
