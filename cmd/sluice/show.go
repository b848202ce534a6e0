package main

import (
	"context"
	"fmt"
	"slices"
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
		Use: "jobs", Short: "List the jobs", GroupID: "jobs", Args: exactly(), ValidArgsFunction: cobra.NoFileCompletions,
		Long:    "List the jobs, newest first, and the latest of those that have ended.",
		Example: "  sluice jobs\n  sluice jobs -o json | jq -r '.[] | select(.state==\"RUNNING\").name'",
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
				if len(jobs) == 0 {
					fmt.Fprintln(c.stderr, "no jobs yet; submit one with `sluice submit FILE`")
					return nil
				}
				t := c.table("NAME", "ID", "STATE", "SINCE", "SLOTS", "CHECKPOINT", "RESTARTS", "WAITS FOR")
				for i := range jobs {
					j := &jobs[i]
					t.AppendRow(table.Row{j.Name, j.ID, j.State, ago(stateSince(j)), fmt.Sprintf("%d/%d", j.Slots.Held, j.Slots.Needed), latestOf(j), j.Restarts, cut(waitsFor(j), waitsForWidth)})
				}
				t.Render()
				return nil
			})
		},
	}
}

// waitsForWidth bounds a column; `sluice job` shows the whole text.
const waitsForWidth = 80

// stateSince of a job that has ended is its end, also after a restart of the job manager.
func stateSince(j *web.Job) *time.Time {
	if j.EndedAt != nil {
		return j.EndedAt
	}
	return j.StateSince
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
		Use: "job NAME|ID", Short: "Show one job: state, slots, subtasks, checkpoints, last failure", GroupID: "jobs", Args: exactly("NAME|ID"), ValidArgsFunction: c.completeJobs,
		Long:    "Show one job: state, what it waits for, checkpoints, last failure, and each subtask with its counters and lag. A name means the newest job of that name.",
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
	line("state", "%s since %s, attempt %d, %d restarts", j.State, ago(stateSince(j)), j.Attempt, j.Restarts)
	line("submitted", "%s ago", ago(j.SubmittedAt))
	line("slots", "needs %d, has %d, free in the cluster %d", j.Slots.Needed, j.Slots.Held, j.Slots.Free)
	if j.Slots.Explain != "" {
		line("waits for", "slots: %s", j.Slots.Explain)
	}
	for _, w := range j.Waiting {
		if j.EndedAt != nil { // it waits for nothing any more: something of it is damaged
			line("note", "%s", w)
			continue
		}
		line("waits for", "%s", w)
	}
	if l := j.Checkpoints.Latest; l != nil {
		line("checkpoint", "%d, %s ago, took %d ms, %d bytes of state; %d completed, %d failed", l.ID, ago(l.CompletedAt), l.DurationMs, l.SizeBytes, j.Checkpoints.Completed, j.Checkpoints.Failed)
	} else if j.Checkpoints.Completed > 0 {
		line("checkpoint", "none that can be read; %d completed, %d failed", j.Checkpoints.Completed, j.Checkpoints.Failed)
	} else {
		line("checkpoint", "none yet; %d failed", j.Checkpoints.Failed)
	}
	if f := j.Checkpoints.LastFailure; f != "" {
		line("", "last failed: %s", f)
	}
	if p := j.Checkpoints.Pending; p != "" && !slices.Contains(j.Waiting, p) {
		line("", "pending: %s", p)
	}
	for _, p := range j.Publications {
		if text := publicationText(&p, j.EndedAt != nil); text != "" {
			line("offsets", "%s", text)
		}
	}
	if f := j.Failure; f != nil {
		line("failure", "%s ago, %s%s: %s", ago(f.At), f.Class, prefixed(" in ", f.Subtask), f.Message)
	}
	if j.EndedAt != nil {
		return // its subtasks are gone, and so are their counters
	}
	fmt.Fprintln(c.stdout)
	t := c.table("SUBTASK", "STATE", "TASK MANAGER", "RECORDS IN", "RECORDS OUT", "SKIPPED", "DEAD LETTERS", "LAG", "WAITS FOR")
	for _, v := range j.Vertices {
		for _, s := range v.Subtasks {
			t.AppendRow(table.Row{
				v.Name + "/" + strconv.Itoa(int(s.Index)), s.State, s.TaskManager, s.RecordsIn, s.RecordsOut, s.RecordsSkipped + s.RecordsFailed,
				s.RecordsDeadLettered, lagOf(s.Lag), cut(s.Waiting, waitsForWidth),
			})
		}
	}
	t.Render()
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
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
		Use: "checkpoints NAME|ID", Short: "List the checkpoints that are kept of a job", GroupID: "jobs", Args: exactly("NAME|ID"), ValidArgsFunction: c.completeJobs,
		Long:    "List the completed checkpoints that are kept of a job, newest first, and how to start a job from each.",
		Example: "  sluice checkpoints orders\n  sluice checkpoints orders -o json | jq '.[0].offsets'",
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
				if len(list) == 0 {
					fmt.Fprintln(c.stderr, "no checkpoints yet")
					return nil
				}
				t := c.table("ID", "ATTEMPT", "COMPLETED", "TOOK", "STATE BYTES", "COMMITTED", "FINAL", "RESTORE WITH")
				for _, cp := range list {
					t.AppendRow(table.Row{cp.ID, cp.Attempt, ago(cp.CompletedAt) + " ago", fmt.Sprintf("%d ms", cp.DurationMs), cp.SizeBytes, cp.Committed, cp.Final,
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
		Use: "taskmanagers", Short: "List the task managers and their slots", GroupID: "cluster", Args: exactly(), ValidArgsFunction: cobra.NoFileCompletions,
		Long:    "List the task managers that are or were connected since the job manager started, with their slots.",
		Example: "  sluice taskmanagers\n  sluice taskmanagers -o json",
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
				if len(list) == 0 {
					fmt.Fprintf(c.stderr, "no task managers yet; start one with `taskmanager --jobmanager %s`\n", c.jobManager)
					return nil
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
