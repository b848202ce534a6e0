package main

import (
	"cmp"
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

// jobSpec says which job file to write. What is empty is as in a pass-through of uncompressed text.
type jobSpec struct {
	broker, source, target         string
	operators, last                string // as in job
	format, keyFormat, partitioner string
	compression                    string
	startup                        string // earliest or latest
	bounded                        bool
	interval                       time.Duration // of checkpoints; 0: off
	guarantee                      string
}

// yaml is the job file, as a user would write it: what is not said is the default.
func (s jobSpec) yaml() string {
	var b strings.Builder
	bounded, operators, properties := "none", "", ""
	if s.bounded {
		bounded = "latest"
	}
	if s.operators != "" {
		operators = "operators:\n  " + s.operators + "\n"
	}
	if s.compression != "" && s.compression != noCompression {
		properties = ", compression.type: " + s.compression
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
      format: %s
      keyFormat: %s
      properties: {bootstrap.servers: '%s'}
%ssinks:
  out:
    from: %s
    kafka:
      topic: %s
      guarantee: %s
      partitioner: %s
      properties: {bootstrap.servers: '%s'%s}
`, jobName, partitions, s.interval, s.source, s.startup, bounded, cmp.Or(s.format, "string"), cmp.Or(s.keyFormat, "bytes"), s.broker,
		operators, cmp.Or(s.last, "in"), s.target, s.guarantee, cmp.Or(s.partitioner, "preserve"), s.broker, properties)
	return b.String()
}
