package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// callTimeout bounds every call but Watch; Submit may take 10 s for its checks.
const callTimeout = 20 * time.Second

// withClient calls f with a client of the job manager and closes it afterwards.
func (c *cli) withClient(ctx context.Context, f func(context.Context, pb.JobServiceClient) error) error {
	_, creds, err := c.tls.Load()
	if err != nil {
		return err
	}
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient("passthrough:///"+c.jobManager, grpc.WithTransportCredentials(creds))
	if err != nil {
		return usageError("--jobmanager %q: %w", c.jobManager, err)
	}
	defer conn.Close()
	return c.explain(f(ctx, pb.NewJobServiceClient(conn)))
}

// call is withClient for one call, which is bounded in time.
func (c *cli) call(ctx context.Context, f func(context.Context, pb.JobServiceClient) error) error {
	return c.withClient(ctx, func(ctx context.Context, client pb.JobServiceClient) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return f(ctx, client)
	})
}

// explain turns "connection refused" into what the user can do about it, and appends the details of an
// error (one per fault of a job) to its message.
func (c *cli) explain(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	if st.Code() == codes.Unavailable {
		return &exitError{exitFailed, fmt.Errorf("no job manager at %s: start one with `jobmanager --listen %s`, or name another with --jobmanager (%s)",
			c.jobManager, c.jobManager, st.Message())}
	}
	text := st.Message()
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				text += "\n  " + v.GetField() + ": " + v.GetDescription()
			}
		}
	}
	return status.Error(st.Code(), text)
}

func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.stdout)
	enc.SetIndent("", " ")
	return enc.Encode(v)
}
