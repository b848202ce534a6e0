package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// stampSource is the header with topic/partition/offset, in CEL.
const stampSource = `{"key": "src", "value": topic + "/" + string(partition) + "/" + string(offset)}`

// JobFile is the job as a user would write it.
func (w *Workload) JobFile() string {
	p := w.params
	var f strings.Builder
	fmt.Fprintf(&f, "name: %s\nparallelism: %d\n", p.Name, p.Parallelism)
	retain := ""
	if p.Retain > 0 {
		retain = fmt.Sprintf(", retain: %d", p.Retain)
	}
	fmt.Fprintf(&f, "checkpoint: {interval: %v, timeout: %v, tolerableFailures: 5%s}\n", p.CheckpointInterval, p.CheckpointTimeout, retain)
	f.WriteString("restart: {strategy: exponential-delay, initial: 0s, max: 1s, attempts: 1000, healthyAfter: 5s}\n")
	fmt.Fprintf(&f, "sources:\n%s%s", w.source("in", w.In()), w.source("compacted", w.Compacted()))
	if w.kind == D { // a sink behind each source, in its chain: only there are batches passed on unopened
		fmt.Fprintf(&f, "sinks:\n%s%s", w.sink("out", "in"), w.sink("out2", "compacted"))
	} else {
		fmt.Fprintf(&f, "operators:\n%ssinks:\n%s", w.operators(), w.sink("out", "last"))
	}
	return f.String()
}

func (w *Workload) sink(name, from string) string {
	return fmt.Sprintf("  %s:\n    from: %s\n%s    kafka:\n      topic: %s\n      guarantee: %s\n      partitioner: %s\n      properties: %s\n",
		name, from, w.wide(), w.Out(), w.params.Guarantee, w.partitioner(), properties(w.sinkProperties()))
}

func (w *Workload) source(name, topic string) string {
	own := map[string]string{"bootstrap.servers": w.params.Brokers, "group.id": w.params.Name, "isolation.level": "read_committed"}
	maps.Copy(own, w.params.SourceProperties)
	return fmt.Sprintf(`  %s:
    kafka:
      topics: [%s]
      startup: earliest
      offsets: {storage: %s}
      format: string
      keyFormat: string
      properties: %s
`, name, topic, w.params.OffsetStorage, properties(own))
}

// operators end in one that is named last. A chain of forward edges follows the hash exchange, so that the
// order of a key holds to the end.
func (w *Workload) operators() string {
	emitZero := stampSource + `, {"key": "emit", "value": "0"}`
	switch w.kind {
	case A:
		return fmt.Sprintf("  last: {from: [in, compacted], map: {headers: '[%s]'}}\n", emitZero)
	case B:
		return fmt.Sprintf("  stamp: {from: [in, compacted], map: {headers: '[%s]'}}\n  last: {from: stamp, keyBy: 'key', count: {}}\n", emitZero)
	default:
		return fmt.Sprintf(`  kept:
    from: [in, compacted]
    filter: 'value.split("|", 4)[2] != "x"'
  fan:
    from: kept
    keyBy: key
%[1]s    flatMap: 'lists.range(int(value.split("|", 4)[2])).map(i, string(i) + "|" + value)'
  last:
    from: fan
%[1]s    map: {headers: '[%[2]s, {"key": "emit", "value": value.split("|", 2)[0]}]'}
`, w.wide(), stampSource)
	}
}

// wide is the parallelism behind the exchange where it differs.
func (w *Workload) wide() string {
	if w.kind != C {
		return ""
	}
	return fmt.Sprintf("    parallelism: %d\n", w.Slots())
}

func (w *Workload) partitioner() string {
	if w.kind == A || w.kind == D {
		return "preserve"
	}
	return "key"
}

func (w *Workload) sinkProperties() map[string]string {
	own := map[string]string{"bootstrap.servers": w.params.Brokers}
	if w.kind != D { // it keeps the compression of each batch
		own["compression.type"] = "lz4"
	}
	if w.params.Guarantee == "exactly-once" {
		own["transaction.timeout.ms"] = fmt.Sprint(w.params.TransactionTimeout.Milliseconds())
	}
	maps.Copy(own, w.params.SinkProperties)
	return own
}

func properties(of map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%s: '%s'", name, strings.ReplaceAll(of[name], "'", "''")))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
