package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// TestSourceOptionsRefusedAtSubmit has what only brokers can tell about the options of a source: told in time,
// with the name, the reason and the way out. What a job file shows by itself is in cmd/sluice.
func TestSourceOptionsRefusedAtSubmit(t *testing.T) {
	onEveryKafka(t, []testCase{{"refused at submit", refuseSourceOptions}})
}

func refuseSourceOptions(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t, 1)
	unused, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("127.0.0.1:%d", unused)
	const job = `name: $name
checkpoint: {interval: 1s}
sources:
  in: {kafka: {SOURCE}}
sinks:
  out: {from: in, kafka: {topic: '$out', guarantee: at-least-once, properties: {bootstrap.servers: '$brokers'}}}
`
	for _, c := range []struct {
		name, source string
		code         int // 2: seen without asking a broker
		says         []string
	}{
		{"partition that does not exist", "partitions: {'$in': [0, 7]}, startup: earliest, properties: {bootstrap.servers: '$brokers'}", 1, []string{r.topic("in") + "/7"}},
		{"topic of the set that does not exist", "partitions: {'$none': [0]}, startup: earliest, properties: {bootstrap.servers: '$brokers'}", 1, []string{r.topic("none"), "does not exist"}},
		{"dead letter topic that does not exist", "topics: ['$in'], startup: earliest, onError: {deadLetter: '$none'}, properties: {bootstrap.servers: '$brokers'}", 1, []string{r.topic("none"), "does not exist"}},
		{"pattern that matches nothing", "topicPattern: '$none.*', startup: earliest, properties: {bootstrap.servers: '$brokers'}", 1, []string{"matches topicPattern"}},
		{"start offset of an unknown partition", "topics: ['$in'], startup: {offsets: {'$in': {7: 1}}}, properties: {bootstrap.servers: '$brokers'}", 1, []string{r.topic("in") + "/7", "remove it"}},
		{"ZooKeeper that is not there", "topics: ['$in'], startup: earliest, offsets: {storage: zookeeper}, properties: {bootstrap.servers: '$brokers', group.id: g, zookeeper.connect: '" + nobody + "', zookeeper.connection.timeout.ms: 1000}", 1, []string{nobody}},
		{"broker that is not that old", "topics: ['$in'], startup: earliest, offsets: {storage: none}, properties: {bootstrap.servers: '$brokers', broker.version: 0.8.2}", 1, []string{"broker.version", "remove"}},
		{"a time on an old broker", "topics: ['$in'], startup: {timestamp: 2026-01-01T00:00:00Z}, offsets: {storage: none}, properties: {bootstrap.servers: '$brokers', broker.version: 0.8.2}", 2, []string{"find a time", "{offsets: …}"}},
		{"no committed offset and no reset", "topics: ['$in'], startup: committed, properties: {bootstrap.servers: '$brokers', group.id: '$g', auto.offset.reset: none}", 1, []string{r.topic("g"), "auto.offset.reset"}},
	} {
		t.Run(c.name, func(t *testing.T) { r.refused(t, strings.Replace(job, "SOURCE", c.source, 1), c.code, c.says...) })
	}
	r.finish(t, copyJob) // and nobody was harmed
}
