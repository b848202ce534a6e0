package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

const (
	// callTimeout bounds every call but Watch; Submit may take 10 s for its checks.
	callTimeout = 20 * time.Second
	// answerBytes bounds an answer: the lag of 10,000 partitions, each with a reason, has some megabytes.
	answerBytes    = 64 << 20
	connectTimeout = 5 * time.Second
	redialPause    = 500 * time.Millisecond
)

// withClient calls f with a client of the job manager and closes it afterwards.
func (c *cli) withClient(ctx context.Context, f func(context.Context, pb.JobServiceClient) error) error {
	if _, _, err := net.SplitHostPort(c.jobManager); err != nil {
		return usageError("--jobmanager %q is not HOST:PORT", c.jobManager)
	}
	_, creds, err := c.tls.Load()
	if err != nil {
		return err
	}
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = redialPause, redialPause
	conn, err := grpc.NewClient("passthrough:///"+c.jobManager, grpc.WithTransportCredentials(creds), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(answerBytes)), grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: connectTimeout}))
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

// explain turns an error of gRPC into what the user can do about it, and appends the details of an
// error (one per fault of a job) to its message.
func (c *cli) explain(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch st.Code() {
	case codes.Unavailable, codes.Unimplemented:
		return &exitError{exitFailed, errors.New(c.unreachable(st.Message()))}
	case codes.DeadlineExceeded:
		return &exitError{exitFailed, fmt.Errorf("no answer from the job manager at %s: %s", c.jobManager, reasonOf(st.Message()))}
	case codes.Canceled:
		return &exitError{exitFailed, errors.New("interrupted")}
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

// unreachable tells apart the ways in which a connection fails. gRPC has only the text for it.
func (c *cli) unreachable(text string) string {
	has := func(part string) bool { return strings.Contains(text, part) }
	why := reasonOf(text)
	switch {
	case has("first record does not look like a TLS handshake"):
		return fmt.Sprintf("the job manager at %s speaks no TLS: leave --tls-cert, --tls-key and --tls-ca out (%s)", c.jobManager, why)
	case has("tls: "), has("x509: "):
		return fmt.Sprintf("no trust between the job manager at %s and this client: %s; check --tls-cert, --tls-key and --tls-ca on both sides", c.jobManager, why)
	case has("error reading server preface") && c.tls == daemon.TLSFiles{}:
		return fmt.Sprintf("%s answers, but not as a job manager without TLS: give --tls-cert, --tls-key and --tls-ca if it wants TLS, "+
			"and check that --jobmanager names its gRPC port, not that of HTTP (%s)", c.jobManager, why)
	case has("error reading server preface"), has("unexpected HTTP status"), has("unknown service"):
		return fmt.Sprintf("%s answers, but is no job manager: check that --jobmanager names its gRPC port, not that of HTTP (%s)", c.jobManager, why)
	case c.tls != daemon.TLSFiles{} && (has("broken pipe") || has("connection reset")): // a certificate is refused after the handshake
		return fmt.Sprintf("the job manager at %s closed the connection after the TLS handshake: it may not trust this certificate; check --tls-cert and --tls-key here and --tls-ca there (%s)",
			c.jobManager, why)
	case has("no such host"):
		return fmt.Sprintf("no job manager at %s: the name is not known; check --jobmanager (%s)", c.jobManager, why)
	case has("connection refused"):
		return fmt.Sprintf("no job manager at %s: start one with `jobmanager --listen %s`, or name another with --jobmanager (%s)", c.jobManager, c.jobManager, why)
	default:
		return fmt.Sprintf("the job manager at %s cannot be reached: %s", c.jobManager, why)
	}
}

// reasonOf takes gRPC's wrapping off: the last part says what happened.
func reasonOf(text string) string {
	text = strings.TrimPrefix(text, "connection error: desc = ")
	text = strings.Trim(text, `"`)
	for _, wrapping := range []string{"transport: Error while dialing: ", "transport: authentication handshake failed: "} {
		text = strings.TrimPrefix(text, wrapping)
	}
	return text
}

func (c *cli) printJSON(v any) error {
	enc := json.NewEncoder(c.stdout)
	enc.SetIndent("", " ")
	return enc.Encode(v)
}
