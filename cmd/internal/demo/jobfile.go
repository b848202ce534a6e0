package demo

import (
	"fmt"
	"strings"
)

const (
	guarantee = "exactly-once"
	// source is the name of the source in the job.
	source = "orders"
)

// jobFile is the job of the demo, as a user would write it. Each partition ends at the given offset.
func jobFile(b *broker, recordsPerPartition int) string {
	var stop []string
	for p := range partitions {
		stop = append(stop, fmt.Sprintf("%d: %d", p, recordsPerPartition))
	}
	return fmt.Sprintf(`name: demo
parallelism: %d
checkpoint: {interval: 500ms, retain: 20}
sources:
  %s:
    kafka:
      topics: [%s]
      startup: earliest
      bounded: {offsets: {%s: {%s}}}
      offsets: {storage: none}
      format: string
      keyFormat: string
      properties: {bootstrap.servers: '%s', group.id: demo}
operators:
  paid:  {from: %s, filter: 'value.startsWith("paid")'}
  count: {from: paid, keyBy: 'key', count: {}}
sinks:
  out:
    from: count
    kafka:
      topic: %s
      guarantee: %s
      properties: {bootstrap.servers: '%s', compression.type: lz4}
`, parallelism, source, b.input, b.input, strings.Join(stop, ", "), b, source, b.output, guarantee, b)
}
