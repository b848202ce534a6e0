package job

import (
	"time"

	"github.com/sluice-stream/sluice/graph"
)

const (
	// firstBackoff is the delay of the second restart in a row under exponential-delay, unless the
	// initial delay is longer; it doubles from there.
	firstBackoff = time.Second
	// jitterPart is the largest part of a delay that jitter takes away, so that jobs that failed together
	// do not come back together.
	jitterPart = 0.25
)

// Delay is how long the n-th restart in a row waits; n counts from 1. random gives numbers in [0, 1); nil:
// no jitter. Under exponential-delay the first restart waits Initial, the second a second (or twice
// Initial), and so on doubling up to Max. Under fixed-delay each waits Initial.
func Delay(policy graph.Restart, n int, random func() float64) time.Duration {
	if policy.Strategy == graph.FixedDelay || n <= 1 {
		return policy.Initial
	}
	delay := max(firstBackoff, 2*policy.Initial)
	for range n - 2 {
		if delay >= policy.Max {
			break
		}
		delay *= 2
	}
	delay = min(delay, policy.Max)
	if random != nil {
		delay -= time.Duration(jitterPart * random() * float64(delay))
	}
	return delay
}

// Allowed says whether a restart may follow when used of them, that one included, count since the job was
// last healthy.
func Allowed(policy graph.Restart, used int) bool {
	return policy.Strategy != graph.NoRestart && used <= policy.Attempts
}
