package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// endTimeout bounds the end of the job after Ctrl-C.
const endTimeout = 8 * time.Second

func (c *cli) runCommand() *cobra.Command {
	var sets []string
	slots, dataDir, level := 0, "", "warn"
	cmd := &cobra.Command{
		Use: "run FILE", Short: "Run a job with a whole cluster in this process, for development", GroupID: "try", Args: exactly("FILE"),
		Long: `Start a job manager and a task manager in this process, submit the job and follow it.
Print sinks write to standard output. Ctrl-C stops the job with a final checkpoint. Without
--data-dir nothing is kept; with it the job goes on from its last checkpoint at the next start of
a job manager on that directory.`,
		Example: "  sluice run job.yaml\n  sluice run job.yaml --set parallelism=4 --slots 4",
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := c.load(args[0], sets)
			if err != nil {
				return err
			}
			plan, err := planOf(job)
			if err != nil {
				return err
			}
			if slots == 0 {
				slots = plan.Slots
			}
			if dataDir == "" {
				tmp, err := os.MkdirTemp("", "sluice-run-")
				if err != nil {
					return fmt.Errorf("make a data directory: %w", err)
				}
				defer os.RemoveAll(tmp)
				dataDir = tmp
			}
			local := &localCluster{cli: c, slots: slots, dataDir: dataDir, logLevel: level}
			return local.run(cmd.Context(), &pb.SubmitRequest{Job: wire.JobToProto(job)})
		},
	}
	setFlag(cmd, &sets)
	cmd.Flags().IntVar(&slots, "slots", 0, "slots of the task manager; 0: as many as the job needs")
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "keep checkpoints here; empty: a temporary directory")
	cmd.Flags().StringVar(&level, "log-level", level, "debug, info, warn or error")
	return cmd
}

// localCluster is a job manager and a task manager in this process.
type localCluster struct {
	cli      *cli
	slots    int
	dataDir  string
	logLevel string
}

// run submits the job and follows it to its end, or stops it when ctx ends.
func (l *localCluster) run(ctx context.Context, req *pb.SubmitRequest) error {
	// The daemons outlive ctx: the job is stopped first.
	clusterCtx, endCluster := context.WithCancel(context.WithoutCancel(ctx))
	defer endCluster()
	g, clusterCtx := errgroup.WithContext(clusterCtx)
	jm := make(chan string, 1)
	g.Go(func() error {
		return daemon.JobManager(clusterCtx, []string{"--listen", "127.0.0.1:0", "--http", "", "--data-dir", l.dataDir, "--log-level", l.logLevel},
			readyLine(jm, io.Discard), l.cli.stderr)
	})
	addr, err := await(clusterCtx, jm, "grpc")
	if err != nil {
		return errors.Join(err, g.Wait())
	}
	tm := make(chan string, 1)
	g.Go(func() error {
		return daemon.TaskManager(clusterCtx, []string{"--jobmanager", addr, "--id", "local", "--slots", fmt.Sprint(l.slots), "--http", "", "--log-level", l.logLevel},
			readyLine(tm, l.cli.stdout), l.cli.stderr)
	})
	if _, err := await(clusterCtx, tm, "data"); err != nil {
		return errors.Join(err, g.Wait())
	}
	err = l.cli.at(addr).withClient(clusterCtx, func(_ context.Context, client pb.JobServiceClient) error {
		return l.drive(ctx, clusterCtx, client, req)
	})
	endCluster()
	if clusterErr := g.Wait(); clusterErr != nil && !errors.Is(clusterErr, context.Canceled) {
		err = errors.Join(err, clusterErr)
	}
	return err
}

// drive submits and follows. When ctx ends (Ctrl-C) it stops the job and follows it to its end.
func (l *localCluster) drive(ctx, clusterCtx context.Context, client pb.JobServiceClient, req *pb.SubmitRequest) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := client.Submit(call, req)
	if err != nil {
		return err
	}
	for _, w := range resp.GetWarnings() {
		fmt.Fprintln(l.cli.stderr, "warning:", w)
	}
	followCtx, stopFollowing := context.WithCancel(clusterCtx)
	defer stopFollowing()
	stopped := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(stopped)
		fmt.Fprintln(l.cli.stderr, "stopping the job with a final checkpoint; it is given", endTimeout)
		end, cancel := context.WithTimeout(clusterCtx, endTimeout)
		defer cancel()
		if _, err := client.Stop(end, &pb.StopRequest{Job: resp.GetJobId()}); err != nil {
			fmt.Fprintln(l.cli.stderr, "stop:", message(err))
		}
		select {
		case <-end.Done():
			stopFollowing()
		case <-followCtx.Done():
		}
	})
	err = l.cli.follow(followCtx, client, resp.GetJobId())
	stopFollowing()
	if !unregister() {
		<-stopped
	}
	return err
}

// readyLine hands the first line to ready and the rest to w.
func readyLine(ready chan<- string, w io.Writer) io.Writer {
	return &readyWriter{ready: ready, rest: w}
}

type readyWriter struct {
	ready chan<- string
	rest  io.Writer
	told  bool
}

// Write expects the ready line as one write, as the daemons print it.
func (w *readyWriter) Write(p []byte) (int, error) {
	if w.told {
		return w.rest.Write(p)
	}
	w.told = true
	w.ready <- string(p)
	return len(p), nil
}
