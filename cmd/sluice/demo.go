package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-stream/sluice/cmd/internal/demo"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/web"
)

const defaultDemoRecords = 1_000_000

func (c *cli) demoCommand() *cobra.Command {
	records, kill, servers := defaultDemoRecords, string(demo.KillTaskManager), ""
	cmd := &cobra.Command{
		Use: "demo", Short: "See a job survive kill -9, on an embedded broker", GroupID: "try", Args: exactly(), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Start a cluster of separate processes, run filter → count → sink over a million keyed
records with the guarantee exactly-once, kill some of the processes with kill -9 in the
middle, start a replacement, and judge every record of the output with an independent
read_committed reader: lost, duplicates, order. Nothing is left behind. Exit code 1
unless all are 0.

The broker is an embedded one (kfake, an imitation of Kafka), or a real Kafka with
--bootstrap-servers: two topics are made there and deleted at the end.`,
		Example: "  sluice demo\n  sluice demo --kill both -o json\n  sluice demo --bootstrap-servers localhost:9092",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if records < demo.MinRecords {
				return usageError("--records %d: want at least %d", records, demo.MinRecords)
			}
			what, err := demo.ParseKill(kill)
			if err != nil {
				return usageError("--kill %w", err)
			}
			return c.demo(cmd.Context(), demo.Options{Records: records, Kill: what, BootstrapServers: servers, Submit: c.demoSubmit, Status: c.demoStatus, Checkpoints: c.demoCheckpoints})
		},
	}
	cmd.Flags().IntVar(&records, "records", records, "records to generate; rounded down to a multiple of 40000")
	cmd.Flags().StringVar(&kill, "kill", kill, "what is killed: "+strings.Join(demo.Kills(), ", "))
	cmd.Flags().StringVar(&servers, "bootstrap-servers", "", "brokers of a real Kafka, without TLS and login: HOST:PORT,…; empty: the embedded broker")
	_ = cmd.RegisterFlagCompletionFunc("kill", cobra.FixedCompletions(demo.Kills(), cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that does not exist
	return cmd
}

func (c *cli) demo(ctx context.Context, opts demo.Options) error {
	show := &demoProgress{w: c.stderr, screen: newScreen(c.stderr, c.lookupEnv), started: time.Now()}
	opts.Show = show
	res, err := demo.Run(ctx, opts)
	show.end()
	if err != nil {
		if ctx.Err() != nil {
			return &exitError{exitFailed, fmt.Errorf("interrupted; everything that the demo had started has ended")}
		}
		return err
	}
	return c.demoVerdict(&res)
}

func (c *cli) demoSubmit(ctx context.Context, jobManager, file string) (id string, err error) {
	job, err := c.load(file, nil)
	if err != nil {
		return "", err
	}
	err = c.at(jobManager).call(ctx, func(ctx context.Context, client pb.JobServiceClient) error {
		resp, err := client.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(job)})
		id = resp.GetJobId()
		return err
	})
	return id, err
}

func (c *cli) demoStatus(ctx context.Context, jobManager, id string) (j web.Job, err error) {
	err = c.at(jobManager).call(ctx, func(ctx context.Context, client pb.JobServiceClient) error {
		resp, err := client.Get(ctx, &pb.GetRequest{Job: id})
		if err == nil {
			j = web.JobFromProto(resp.GetJob())
		}
		return err
	})
	return j, err
}

func (c *cli) demoCheckpoints(ctx context.Context, jobManager, id string) (list []web.Checkpoint, err error) {
	err = c.at(jobManager).call(ctx, func(ctx context.Context, client pb.JobServiceClient) error {
		resp, err := client.ListCheckpoints(ctx, &pb.ListCheckpointsRequest{Job: id})
		for _, cp := range resp.GetCheckpoints() {
			list = append(list, web.CheckpointFromProto(cp))
		}
		return err
	})
	return list, err
}

// at is the same command line for another, local and plaintext, job manager.
func (c *cli) at(addr string) *cli {
	return &cli{jobManager: addr, output: c.output, stdout: c.stdout, stderr: c.stderr}
}

// demoVerdict prints the result; a wrong output is an error.
func (c *cli) demoVerdict(r *demo.Result) error {
	if err := c.printDemo(r); err != nil {
		return err
	}
	if !r.OK {
		return &exitError{exitFailed, fmt.Errorf("the demo found a wrong output: %s", r.Problem)}
	}
	return nil
}

func (c *cli) printDemo(r *demo.Result) error {
	if c.output == outputJSON {
		return c.printJSON(r)
	}
	verdict := "OK"
	if !r.OK {
		verdict = "WRONG: " + r.Problem
	}
	t := c.table("RESULT", verdict)
	for _, row := range demoRows(r) {
		t.AppendRow([]any{row[0], row[1]})
	}
	t.Render()
	return nil
}

// demoRows is the table; what does not belong to what was killed is left out.
func demoRows(r *demo.Result) [][2]any {
	rows := [][2]any{
		{"guarantee", r.Guarantee}, {"records in", r.RecordsIn}, {"expected out", r.Expected}, {"records out", r.RecordsOut},
		{"lost", r.Lost}, {"duplicates", r.Duplicates}, {"out of order", r.OutOfOrder},
		{"killed", r.Killed}, {"restarts", r.Restarts}, {"restored from checkpoint", r.RestoredCheckpoint},
	}
	for _, row := range []struct {
		name string
		took int64
	}{
		{"kill to WAITING_FOR_SLOTS", r.NoticedMs}, {"waited for slots", r.WaitingForSlotsMs}, {"kill to job manager back", r.JobManagerMs},
		{"downtime, kill to new output", r.DowntimeMs}, {"recovery, processes there to new output", r.RecoverMs}, {"elapsed", r.ElapsedMs},
	} {
		if row.took != 0 {
			rows = append(rows, [2]any{row.name, ms(row.took)})
		}
	}
	return append(rows, [2]any{"records/s over all", r.RecordsPerSecond}, [2]any{"broker", r.Broker})
}

func ms(n int64) string { return fmt.Sprintf("%d ms", n) }

// demoProgress shows a line per event, and on a terminal a line that is drawn again.
type demoProgress struct {
	w       io.Writer
	screen  screen
	started time.Time
	drawn   bool
	last    time.Time
}

// Say prints one event.
func (p *demoProgress) Say(format string, args ...any) {
	p.end()
	fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.started).Seconds(), fmt.Sprintf(format, args...))
}

// Tick shows the state of now, at most every 100 ms on a terminal and every 2 s elsewhere.
func (p *demoProgress) Tick(text string) {
	every := 2 * time.Second
	if p.screen.redraws() {
		every = 100 * time.Millisecond
	}
	if time.Since(p.last) < every {
		return
	}
	p.last = time.Now()
	if p.screen.redraws() {
		fmt.Fprintf(p.w, "\r\x1b[K%s", p.screen.fit("        "+text))
		p.drawn = true
		return
	}
	fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.started).Seconds(), text)
}

func (p *demoProgress) end() {
	if p.drawn {
		fmt.Fprintf(p.w, "\r\x1b[K")
		p.drawn = false
	}
}
