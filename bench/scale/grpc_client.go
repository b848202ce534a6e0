package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/graph"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// callTimeout bounds a call to the job manager.
const callTimeout = 30 * time.Second

// client asks the job manager.
type client struct {
	conn *grpc.ClientConn
	jobs pb.JobServiceClient
}

func newClient(address string) (*client, error) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("making a client of the job manager: %w", err)
	}
	return &client{conn, pb.NewJobServiceClient(conn)}, nil
}

func (c *client) close() error { return c.conn.Close() }

func (c *client) submit(ctx context.Context, job *graph.Job) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := c.jobs.Submit(ctx, &pb.SubmitRequest{Job: wire.JobToProto(job)}); err != nil {
		return fmt.Errorf("submitting job %s: %w", job.Name, withDetails(err))
	}
	return nil
}

// withDetails adds what is wrong with an invalid job.
func withDetails(err error) error {
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				err = fmt.Errorf("%w; %s %s", err, v.GetField(), v.GetDescription())
			}
		}
	}
	return err
}

func (c *client) cancel(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := c.jobs.Cancel(ctx, &pb.CancelRequest{Job: name}); err != nil {
		return fmt.Errorf("canceling job %s: %w", name, err)
	}
	return nil
}

// cluster is what the job manager says of its task managers.
type cluster struct {
	slots, freeSlots int
	// oldest is the age of the oldest newest heartbeat.
	oldest time.Duration
	// took is how long the answer took.
	took time.Duration
}

func (c *client) cluster(ctx context.Context) (cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	began := time.Now()
	list, err := c.jobs.ListTaskManagers(ctx, &pb.ListTaskManagersRequest{})
	if err != nil {
		return cluster{}, fmt.Errorf("listing the task managers: %w", err)
	}
	out := cluster{took: time.Since(began)}
	for _, tm := range list.GetTaskManagers() {
		if tm.GetState() == "LOST" {
			continue
		}
		out.slots += int(tm.GetSlots())
		out.freeSlots += int(tm.GetFreeSlots())
		// At the beginning of the call: the age at its end would count how long the answer took.
		out.oldest = max(out.oldest, began.Sub(tm.GetLastHeartbeat().AsTime()))
	}
	return out, nil
}
