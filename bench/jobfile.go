package main

import (
	"fmt"
	"strings"
	"time"
)

const jobName = "bench"

// The guarantees of a sink.
const (
	atLeastOnce = "at-least-once"
	exactlyOnce = "exactly-once"
)

// jobSpec says which job file to write.
type jobSpec struct {
	broker, source, target string
	filter                 string // CEL; empty: every record is passed on
	startup                string // earliest or latest
	bounded                bool
	interval               time.Duration // of checkpoints; 0: off
	guarantee              string
}

// yaml is the job file, as a user would write it: what is not said is the default.
func (s jobSpec) yaml() string {
	var b strings.Builder
	bounded, from := "none", "in"
	if s.bounded {
		bounded = "latest"
	}
	fmt.Fprintf(&b, `name: %s
parallelism: %d
checkpoint: {interval: %s}
sources:
  in:
    kafka:
      topics: [%s]
      startup: %s
      bounded: %s
      offsets: {storage: none}
      format: string
      properties: {bootstrap.servers: '%s'}
`, jobName, partitions, s.interval, s.source, s.startup, bounded, s.broker)
	if s.filter != "" {
		from = "kept"
		fmt.Fprintf(&b, "operators:\n  kept: {from: in, filter: '%s'}\n", s.filter)
	}
	fmt.Fprintf(&b, `sinks:
  out:
    from: %s
    kafka:
      topic: %s
      guarantee: %s
      partitioner: preserve
      properties: {bootstrap.servers: '%s'}
`, from, s.target, s.guarantee, s.broker)
	return b.String()
}
