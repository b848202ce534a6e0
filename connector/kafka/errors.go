package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// Error is a failure that an attempt cannot survive. It says where, why, and what to do.
type Error struct {
	// Where is a partition, a topic or a group.
	Where string
	Err   error
	Hint  string
	// class is user if the job has to change, external otherwise.
	class string
}

// Error names the place, the reason and the way out.
func (e *Error) Error() string {
	text := e.Err.Error()
	if e.Where != "" {
		text = e.Where + ": " + text
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap gives the reason.
func (e *Error) Unwrap() error { return e.Err }

// FailureClass says who is the cause: the job (user), or Kafka (external).
func (e *Error) FailureClass() string {
	if e.class == "" {
		return "external"
	}
	return e.class
}

// survivable says whether it makes sense to try again while a job runs. Brokers go and come back, and
// what stands at their address meanwhile may be anything; only an answer that cannot change without
// somebody's help is final.
func survivable(err error) bool {
	var another *anotherTopicError
	if errors.As(err, &another) {
		return !another.final
	}
	var old *oldLeaderError
	if errors.As(err, &old) {
		return !old.final
	}
	var truncated *truncatedError
	if errors.As(err, &truncated) {
		return false
	}
	var answer *wire.Error
	if !errors.As(err, &answer) {
		var broken *wire.BatchError
		return !errors.As(err, &broken)
	}
	return answer.Class() != wire.ClassFatal || answer.Code == wire.CodeUnknownServerError
}

// unreachable says that there was no answer.
func unreachable(err error) bool {
	var answer *wire.Error
	return !errors.As(err, &answer)
}

// pauseAfter is how long to wait before a call is repeated for the n-th time.
func (c *Config) pauseAfter(err error, n int) time.Duration {
	if unreachable(err) {
		return c.Reconnect.pause(n)
	}
	return c.Retry.pause(n)
}

// sleep waits; the error is that of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
