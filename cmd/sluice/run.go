package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/web"
)

// endTimeout bounds the end of the job after Ctrl-C.
const endTimeout = 8 * time.Second

func (c *cli) runCommand() *cobra.Command {
	local, req := &localCluster{cli: c, logLevel: "warn"}, &pb.SubmitRequest{}
	var sets []string
	cmd := &cobra.Command{
		Use: "run FILE", Short: "Run a job with a whole cluster in this process, for development", GroupID: "try", Args: exactly("FILE"), ValidArgsFunction: completeFile,
		Long: `Start a job manager and a task manager in this process, submit the job and follow it.
Print sinks write to standard output, with -o json to standard error. Ctrl-C stops the job
with a final checkpoint. Without --data-dir nothing is kept; with it the next run of the
same job goes on from its last checkpoint, and after a loss of data from the one that
--from-checkpoint names. One that ended before its first checkpoint goes on from where it
began, if that was a checkpoint.`,
		Example: `  sluice run job.yaml
  sluice run job.yaml --set parallelism=4 --slots 4
  sluice run job.yaml --data-dir ./state    # again: goes on where it was stopped`,
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := c.load(args[0], sets)
			if err != nil {
				return err
			}
			plan, err := planOf(job)
			if err != nil {
				return err
			}
			if local.slots == 0 {
				local.slots = plan.Slots
			}
			if local.slots < 1 || local.slots > maxLocalSlots {
				return usageError("--slots %d: want 1 to %d", local.slots, maxLocalSlots)
			}
			local.keep = local.dataDir != ""
			if err := checkpointGiven(cmd, local.from); err != nil {
				return err
			}
			if local.from != "" && !local.keep {
				return usageError("--from-checkpoint %s: there are none without --data-dir", local.from)
			}
			if !local.keep {
				tmp, err := os.MkdirTemp("", "sluice-run-")
				if err != nil {
					return fmt.Errorf("make a data directory: %w", err)
				}
				defer os.RemoveAll(tmp)
				local.dataDir = tmp
			}
			req.Job = wire.JobToProto(job)
			return local.run(cmd.Context(), req)
		},
	}
	setFlag(cmd, &sets)
	cmd.Flags().IntVar(&local.slots, "slots", 0, "slots of the task manager; 0: as many as the job needs")
	cmd.Flags().StringVar(&local.dataDir, "data-dir", "", "keep checkpoints in `DIR`; empty: in a temporary one")
	allowDroppedFlag(cmd, req)
	cmd.Flags().StringVar(&local.from, fromCheckpoint, "", "go on from checkpoint `JOBID/N` in --data-dir instead of the latest")
	cmd.Flags().StringVar(&local.logLevel, "log-level", local.logLevel, "`LEVEL` of the log: debug, info, warn or error")
	return cmd
}

// maxLocalSlots is the most that a task manager can have.
const maxLocalSlots = 1024

// localCluster is a job manager and a task manager in this process. They get no environment: it is meant
// for those that run as services.
type localCluster struct {
	cli      *cli
	slots    int
	dataDir  string
	keep     bool // dataDir was named by the user
	logLevel string
	// from is the checkpoint that the user chose; empty: the latest.
	from string
}

// run submits the job and follows it to its end, or stops it when ctx ends.
func (l *localCluster) run(ctx context.Context, req *pb.SubmitRequest) error {
	// The daemons outlive ctx: the job is stopped first.
	clusterCtx, endCluster := context.WithCancel(context.WithoutCancel(ctx))
	defer endCluster()
	g, clusterCtx := errgroup.WithContext(clusterCtx)
	start := func(daemon func(context.Context, daemon.Process) error, p daemon.Process, field string) (string, error) {
		ready, rest := make(chan string, 1), p.Stdout
		p.Stdout, p.Stderr = readyLine(ready, rest), l.cli.stderr
		p.Args = append(p.Args, "--http", "", "--log-level", l.logLevel)
		g.Go(func() error { return daemon(clusterCtx, p) })
		return await(clusterCtx, ready, field)
	}
	addr, err := start(daemon.JobManager, daemon.Process{Args: []string{"--listen", "127.0.0.1:0", "--data-dir", l.dataDir}, Stdout: io.Discard}, "grpc")
	if err == nil {
		prints := l.cli.stdout
		if l.cli.output == outputJSON {
			prints = l.cli.stderr
		}
		_, err = start(daemon.TaskManager, daemon.Process{Args: []string{"--jobmanager", addr, "--id", "local", "--slots", fmt.Sprint(l.slots)}, Stdout: prints}, "data")
	}
	if err == nil {
		err = l.cli.at(addr).withClient(clusterCtx, func(_ context.Context, client pb.JobServiceClient) error {
			return l.drive(ctx, clusterCtx, client, req)
		})
	}
	endCluster()
	// A daemon that failed has ended the cluster: what it says is why everything else ended.
	if clusterErr := g.Wait(); clusterErr != nil && !errors.Is(clusterErr, context.Canceled) {
		return clusterErr
	}
	return err
}

// drive submits and follows. When ctx ends (Ctrl-C) it stops the job and follows it to its end.
func (l *localCluster) drive(ctx, clusterCtx context.Context, client pb.JobServiceClient, req *pb.SubmitRequest) error {
	id, err := l.submit(ctx, client, req)
	if err != nil {
		return err
	}
	followCtx, stopFollowing := context.WithCancel(clusterCtx)
	defer stopFollowing()
	stopped := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(stopped)
		fmt.Fprintf(l.cli.stderr, "\nstopping the job with a final checkpoint; it has %s for that\n", endTimeout)
		end, cancel := context.WithTimeout(clusterCtx, endTimeout)
		defer cancel()
		if _, err := client.Stop(end, &pb.StopRequest{Job: id}); err != nil {
			fmt.Fprintln(l.cli.stderr, "stop:", message(err))
		}
		select {
		case <-end.Done():
			stopFollowing()
		case <-followCtx.Done():
		}
	})
	err = l.cli.follow(followCtx, client, id)
	stopFollowing()
	if !unregister() {
		<-stopped
	}
	if errors.Is(err, errNotFollowing) && ctx.Err() != nil {
		return fmt.Errorf("the job did not stop within %s; it is left at its last checkpoint", endTimeout)
	}
	return err
}

// submit starts the job. On a directory that knows it, the job goes on: the one that is there when it has
// not ended, else a new one from the last checkpoint, unless it had reached its end.
func (l *localCluster) submit(ctx context.Context, client pb.JobServiceClient, req *pb.SubmitRequest) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if l.keep {
		before, err := client.Get(ctx, &pb.GetRequest{Job: req.GetJob().GetName()})
		switch j := before.GetJob(); {
		case status.Code(err) == codes.NotFound:
			req.FromCheckpoint = l.from // to be told that it is not there
		case err != nil:
			return "", err
		case j.GetEndedAt() == nil && l.from != "":
			return "", usageError("--from-checkpoint %s: %s has not ended in %s and goes on by itself", l.from, j.GetName(), l.dataDir)
		case j.GetEndedAt() == nil && j.GetDamage() != "":
			return "", fmt.Errorf("%s has not ended in %s: %s", j.GetName(), l.dataDir, j.GetDamage())
		case j.GetEndedAt() == nil:
			fmt.Fprintf(l.cli.stderr, "%s has not ended in %s and goes on as it was submitted; the job file is not read again\n", j.GetName(), l.dataDir)
			return j.GetId(), nil
		case l.from != "":
			req.FromCheckpoint = l.from
		case j.GetState() == "FAILED_DATA_LOSS":
			ended := web.JobFromProto(j)
			return "", &exitError{exitJobDataLoss, fmt.Errorf("%w\nit does not go on by itself: run it with --from-checkpoint and the checkpoint of a way out", outcome(&ended))}
		case j.GetState() != "FINISHED" && j.GetDamage() != "" && j.GetCheckpoints().GetLatest() == nil:
			return "", fmt.Errorf("%s has ended in %s as %s, and where it was cannot be read: %s\nit does not begin anew by itself: "+
				"run it with --from-checkpoint and one that can be read, or with another --data-dir", j.GetName(), l.dataDir, j.GetState(), j.GetDamage())
		case j.GetState() != "FINISHED" && j.GetCheckpoints().GetLatest() != nil:
			req.FromCheckpoint = fmt.Sprintf("%s/%d", j.GetId(), j.GetCheckpoints().GetLatest().GetId())
			fmt.Fprintf(l.cli.stderr, "%s goes on from checkpoint %s in %s\n", j.GetName(), req.GetFromCheckpoint(), l.dataDir)
		case endedEarly(j):
			again, err := wentOn(ctx, client, j)
			if err != nil {
				return "", err
			}
			if again {
				req.FromCheckpoint = j.GetId() + "/0"
				fmt.Fprintf(l.cli.stderr, "%s ended in %s before its first checkpoint and goes on from where it began (%s); with another --data-dir it begins anew\n", j.GetName(), l.dataDir, req.GetFromCheckpoint())
			}
		}
	}
	resp, err := client.Submit(ctx, req)
	for _, w := range resp.GetWarnings() {
		fmt.Fprintln(l.cli.stderr, "warning:", w)
	}
	return resp.GetJobId(), err
}

// wentOn says that a job that ended before its first checkpoint had itself gone on from an earlier job of its name: then its
// checkpoint 0 is where that was, or where the user chose. One that began anew does so again, with what the job file says now.
func wentOn(ctx context.Context, client pb.JobServiceClient, early *pb.JobStatus) (bool, error) {
	list, err := client.List(ctx, &pb.ListRequest{})
	if err != nil {
		return false, err
	}
	earlier := slices.DeleteFunc(list.GetJobs(), func(j *pb.JobStatus) bool { return j.GetName() != early.GetName() || endedEarly(j) })
	if len(earlier) == 0 {
		return false, nil
	}
	last := slices.MaxFunc(earlier, func(a, b *pb.JobStatus) int {
		return a.GetSubmittedAt().AsTime().Compare(b.GetSubmittedAt().AsTime())
	})
	return last.GetState() != "FINISHED", nil
}

// endedEarly says that a job has ended, otherwise than it should, before its first checkpoint.
func endedEarly(j *pb.JobStatus) bool {
	return j.GetEndedAt() != nil && j.GetState() != "FINISHED" && j.GetState() != "FAILED_DATA_LOSS" && j.GetDamage() == "" && j.GetCheckpoints().GetLatest() == nil
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
