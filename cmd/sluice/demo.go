package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-stream/sluice/cmd/internal/demo"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/web"
)

const defaultDemoRecords = 1_000_000

func (c *cli) demoCommand() *cobra.Command {
	records := defaultDemoRecords
	cmd := &cobra.Command{
		Use: "demo", Short: "See a job survive kill -9, on an embedded broker", GroupID: "try", Args: exactly(), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Start a cluster of separate processes on an embedded broker (kfake, an imitation of
Kafka), run filter → count → sink over a million keyed records, kill one of two task
managers with kill -9 in the middle, start a replacement, and count the output with an
independent client. Nothing is left behind. Exit code 1 if a record is lost or a count
is wrong.`,
		Example: "  sluice demo\n  sluice demo -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if records < demo.MinRecords {
				return usageError("--records %d: want at least %d", records, demo.MinRecords)
			}
			show := &demoProgress{w: c.stderr, screen: newScreen(c.stderr, c.lookupEnv), started: time.Now()}
			res, err := demo.Run(cmd.Context(), demo.Options{Records: records, Submit: c.demoSubmit, Status: c.demoStatus, Show: show})
			show.end()
			if err != nil {
				if cmd.Context().Err() != nil {
					return &exitError{exitFailed, fmt.Errorf("interrupted; everything that the demo had started has ended")}
				}
				return err
			}
			return c.demoVerdict(&res)
		},
	}
	cmd.Flags().IntVar(&records, "records", records, "records to generate; rounded down to a multiple of 40000")
	return cmd
}

func (c *cli) demoSubmit(ctx context.Context, jobManager, file string) (id string, err error) {
	job, err := c.load(file, nil)
	if err != nil {
		return "", err
	}
	return id, c.at(jobManager).call(ctx, func(ctx context.Context, client pb.JobServiceClient) error {
		resp, err := client.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(job)})
		id = resp.GetJobId()
		return err
	})
}

func (c *cli) demoStatus(ctx context.Context, jobManager, id string) (j web.Job, err error) {
	return j, c.at(jobManager).call(ctx, func(ctx context.Context, client pb.JobServiceClient) error {
		resp, err := client.Get(ctx, &pb.GetRequest{Job: id})
		if err == nil {
			j = web.JobFromProto(resp.GetJob())
		}
		return err
	})
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
	for _, row := range [][2]any{
		{"records in", r.RecordsIn}, {"expected out", r.Expected}, {"records out", r.RecordsOut}, {"lost", r.Lost},
		{"duplicates", fmt.Sprintf("%d (%s)", r.Duplicates, r.Guarantee)}, {"restarts", r.Restarts}, {"restored from checkpoint", r.RestoredCheckpoint},
		{"waited for slots", ms(r.WaitingForSlotsMs)}, {"downtime, kill to new output", ms(r.DowntimeMs)},
		{"recovery, slots there to new output", ms(r.RecoverMs)}, {"records/s over all", r.RecordsPerSecond}, {"elapsed", ms(r.ElapsedMs)},
		{"broker", r.Broker},
	} {
		t.AppendRow([]any{row[0], row[1]})
	}
	t.Render()
	return nil
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
