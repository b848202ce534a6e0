package main

import (
	"strings"
	"testing"
)

// badSource has the source under test in line 5.
const badSource = `name: orders
parallelism: 2
checkpoint: {interval: 1s}
sources:
  in: {kafka: {SOURCE}}
sinks:
  out: {from: in, kafka: {topic: b, guarantee: at-least-once, properties: {bootstrap.servers: 'b:1'}}}
`

// TestBadSourceOptions has what users may get wrong about each option of a source that Flink's connectors have:
// told with the place, the value, the reason and the way out, and never with a secret.
func TestBadSourceOptions(t *testing.T) {
	const (
		plain = "properties: {bootstrap.servers: 'b:1'}"
		zk    = "offsets: {storage: zookeeper}, properties: {bootstrap.servers: 'b:1', group.id: g, "
	)
	for _, c := range []struct{ source, says string }{
		{"topics: [a], partitions: {a: [0]}, " + plain, "topics and partitions exclude each other; keep one of them"},
		{"topicPattern: 'a.*', partitions: {a: [1]}, " + plain, "topicPattern and partitions exclude each other"},
		{"topicPattern: '(', " + plain, "missing closing )"},
		{"partitions: {a: [0, 0]}, " + plain, "partition 0 is named twice"},
		{"partitions: {a: [-1]}, " + plain, "-1 is out of range"},
		{"partitions: {a: []}, " + plain, "want a list of numbers, such as [0, 1]"},
		{"partitions: {a: 0}, " + plain, "want a list of partition numbers"},
		{"partitions: [0, 1], " + plain, "this is a list, want a mapping"},
		{"partitions: {}, " + plain, "add topics: [NAME], topicPattern or partitions"},
		{"partitions: {a: [0]}, startup: {offsets: {a: {1: 5}}}, " + plain, "partition 1 of topic a is not in partitions"},
		{"partitions: {a: [0]}, startup: {offsets: {b: {0: 5}}}, " + plain, `topic "b" is not in partitions`},
		{"topics: [a], mode: groups, " + plain, `"groups" is unknown, want assigned | group; did you mean group?`},
		{"topics: [a], offsets: {storage: zookeper}, " + plain, "did you mean zookeeper?"},
		{"topics: [a], offsets: {storage: zookeeper}, " + plain, "offsets.storage: zookeeper needs zookeeper.connect; add it to properties"},
		{"topics: [a], offsets: {storage: zookeeper}, " + plain, "offsets.storage: zookeeper needs group.id; add it to properties"},
		{"topics: [a], offsets: {storage: both}, properties: {bootstrap.servers: 'b:1', group.id: g}", "offsets.storage: both needs zookeeper.connect"},
		{"topics: [a], " + zk + "zookeeper.connect: 'z:port'}", `port "port" is no number from 1 to 65535; write HOST:PORT,HOST:PORT/CHROOT`},
		{"topics: [a], " + zk + "zookeeper.connect: 'z:2181/a//b'}", `chroot "/a//b"`},
		{"topics: [a], " + zk + "zookeeper.connect: 'z:2181', zookeeper.digest.username: u}", "belong together; give both or none"},
		{"topics: [a], " + zk + "zookeeper.connect: 'z:2181', zookeeper.digest.username: u, zookeeper.digest.password: geheim}", "write ${env:NAME} or ${file:PATH}"},
		{"topics: [a], " + zk + "zookeeper.connect: 'z:2181', zookeeper.session.timeout.ms: 10}", "10 is out of range; want 1000 to 3600000 milliseconds"},
		{"topics: [a], offsets: {storage: both, meaning: lst}, " + plain, "did you mean last?"},
		{"topics: [a], offsets: {meaning: next}, " + plain, "offsets.storage is kafka; in Kafka it is always the next offset; remove it"},
		{"topics: [a], offsets: kafka, " + plain, `"kafka" is text, want a mapping`},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', zookeeper.connect: 'z:2181'}", "it has no effect with offsets.storage: kafka"},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', group.id: g, auto.commit.interval.ms: 1000}", "with checkpoints offsets are published after each of them"},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', group.id: g, enable.auto.commit: true}", "write offsets: {storage: none}"},
		{"topics: [a], until: 'value +', " + plain, "expressions are CEL"},
		{"topics: [a], until: 'size(value)', " + plain, "the result is int, want a bool"},
		{`topics: [a], until: 'valu == "x"', ` + plain, "did you mean 'value'?"},
		{"topics: [a], onError: {deadLetter: ''}, " + plain, "the text is empty"},
		{"topics: [a], onError: {deadLetter: 'a b'}, " + plain, `topic name "a b" is not allowed`},
		{"topics: [a], onError: {deadLetter: a}, " + plain, "name a topic that the source does not read"},
		{"topics: [a], onError: {deadLetters: x}, " + plain, "did you mean deadLetter?"},
		{"topics: [a], onError: deadLetter, " + plain, "deadLetter needs a value; write {deadLetter: …}"},
		{"topics: [a], onError: retry, " + plain, `"retry" is unknown, want fail | skip | deadLetter`},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', partition.discovery.interval.ms: 50}", "want 0, which turns it off, or 100 to 86400000 milliseconds"},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', partition.discovery.interval.ms: -1}", "-1 is out of range"},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', client.rack: ''}", "the value is empty; give a value or remove it"},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', client.rak: r1}", "did you mean client.rack?"},
		{"topics: [a], properties: {bootstrap.servers: 'b:1', broker.version: '3.9'}", "remove it: the broker says what it speaks"},
		{"topics: [a], bounded: {offsets: {a: {0: -5}}}, " + plain, "-5 is out of range"},
	} {
		t.Run(c.source, func(t *testing.T) {
			got := sluice(t.Context(), nil, "validate", writeFile(t, "job.yaml", strings.Replace(badSource, "SOURCE", c.source, 1)))
			if got.code != exitUsage || got.stdout != "" {
				t.Errorf("exit %d, stdout %q; want %d and nothing", got.code, got.stdout, exitUsage)
			}
			for _, want := range []string{c.says, "job.yaml:5:", "sources.in.kafka"} {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("no %q in\n%s", want, got.stderr)
				}
			}
			if strings.Contains(got.stderr, "geheim") {
				t.Error("the secret is told")
			}
		})
	}
}

// TestValidateFindsWhatSubmitRefuses: what the job manager refuses without asking a broker, validate tells with its place.
func TestValidateFindsWhatSubmitRefuses(t *testing.T) {
	for source, says := range map[string]string{
		"topics: [a], properties: {bootstrap.servers: 'b:1'}":                                                                        "startup: committed needs it; add it",
		"topics: [a], startup: earliest, mode: assigned, properties: {bootstrap.servers: 'b:1', group.id: g, broker.version: 0.8.2}": "set offsets: {storage: zookeeper} or {storage: none}",
	} {
		got := sluice(t.Context(), nil, "validate", writeFile(t, "job.yaml", strings.Replace(badSource, "SOURCE", source, 1)))
		if got.code != exitUsage || !strings.Contains(got.stderr, says) || !strings.Contains(got.stderr, "job.yaml:5:") {
			t.Errorf("%s: exit %d\n%s\nwant %s", source, got.code, got.stderr, says)
		}
	}
}
