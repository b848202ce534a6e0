package demo

import (
	"fmt"
	"strings"
)

// jobFile is the job of the demo, as a user would write it. Each partition ends at the given offset.
func jobFile(broker string, recordsPerPartition int) string {
	var stop []string
	for p := range partitions {
		stop = append(stop, fmt.Sprintf("%d: %d", p, recordsPerPartition))
	}
	return fmt.Sprintf(`name: demo
parallelism: %d
checkpoint: {interval: 500ms}
sources:
  orders:
    kafka:
      topics: [%s]
      startup: earliest
      bounded: {offsets: {%s: {%s}}}
      offsets: {storage: none}
      format: string
      keyFormat: string
      properties: {bootstrap.servers: '%s', group.id: demo}
operators:
  paid:  {from: orders, filter: 'value.startsWith("paid")'}
  count: {from: paid, keyBy: 'key', count: {}}
sinks:
  out:
    from: count
    kafka:
      topic: %s
      guarantee: at-least-once
      properties: {bootstrap.servers: '%s', compression.type: lz4}
`, parallelism, inTopic, inTopic, strings.Join(stop, ", "), broker, outTopic, broker)
}
