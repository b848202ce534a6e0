package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func optionsOf(t *testing.T, args ...string) options {
	t.Helper()
	opts, err := parseOptions(args)
	if err != nil {
		t.Fatal(err)
	}
	return opts
}

// Pass-through is done at every size and compression, every other job once.
func TestPlans(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"default": {nil, []string{
			"100-byte lines, none: pass filter produce consume", "100-byte lines, lz4: pass produce consume",
			"1024-byte lines, none: pass produce consume", "1024-byte lines, lz4: pass produce consume",
			"160-byte objects, none: json", "100-byte keyed, none: count",
		}},
		"one job":       {[]string{"--cases=filter"}, []string{"100-byte lines, none: filter"}},
		"other order":   {[]string{"--cases=count,pass", "--sizes=1024,100", "--compression=lz4"}, []string{"1024-byte lines, lz4: pass", "100-byte lines, lz4: pass", "100-byte keyed, lz4: count"}},
		"no pass, once": {[]string{"--cases=split,filter"}, []string{"100-byte lines, none: split filter"}},
	} {
		b := &bench{opts: optionsOf(t, c.args...)}
		var got []string
		for _, p := range b.plans() {
			line := p.data.String() + ":"
			for _, j := range p.jobs {
				line += " " + j.name
			}
			got = append(got, line)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%q, want\n%q", name, got, c.want)
		}
	}
}

// Who draws checkpoints runs in every mode, the bare transactional loop in those with transactions, the others
// once.
func TestEntries(t *testing.T) {
	b := &bench{opts: optionsOf(t, "--contestants=bare-txn,sluice,franz-go,bare-recode", "--modes=off,exactly-once/1s,at-least-once/1s")}
	taking, leftOut := b.taking()
	if len(leftOut) > 0 {
		t.Fatalf("left out: %v", leftOut)
	}
	for job, want := range map[string][]string{
		caseFilter: {"sluice off", "sluice exactly-once/1s", "sluice at-least-once/1s", "franz-go", "bare-recode"},
		casePass:   {"sluice off", "sluice exactly-once/1s", "sluice at-least-once/1s", "franz-go", "bare-txn exactly-once/1s"},
		caseCount:  {"sluice off", "sluice exactly-once/1s", "sluice at-least-once/1s", "franz-go"},
	} {
		var got []string
		for _, e := range b.entries(&dataset{}, jobByName(job), taking) {
			got = append(got, selection{contestant: e.by.name, mode: e.mode.String()}.who())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", job, got, want)
		}
	}
}

func TestLeftOut(t *testing.T) {
	b := &bench{opts: options{contestants: []string{flinkName}}}
	before := flinkRival.missing
	defer func() { flinkRival.missing = before }()
	flinkRival.missing = func() string { return "a JDK" }
	if taking, leftOut := b.taking(); len(taking) != 0 || leftOut[flinkName] != "a JDK" {
		t.Errorf("%v take part, left out %v", taking, leftOut)
	}
}

// Every contestant is known by one name, and does jobs that there are.
func TestContestants(t *testing.T) {
	var names []string
	for _, c := range contestants() {
		if slices.Contains(names, c.name) {
			t.Errorf("two are named %s", c.name)
		}
		names = append(names, c.name)
		for _, name := range c.jobs {
			if jobByName(name) == nil {
				t.Errorf("%s does %q, which is no job", c.name, name)
			}
		}
	}
}

// Kafka's tools are given values that look like the data.
func TestPayload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "payload")
	if err := writePayload(file, datasetSpec{kind: lines, valueBytes: 100}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(values) != payloadLines {
		t.Fatalf("%d values, want %d", len(values), payloadLines)
	}
	for i, value := range values {
		if seq, err := seqOf([]byte(value)); err != nil || seq != i || len(value) != 100 {
			t.Fatalf("value %d is %q", i, value)
		}
	}
}

// copies makes a contestant that copies a topic, but for so many records at the end of partition 0.
func copies(name string, lost int) *contestant {
	return &contestant{name: name, jobs: []string{casePass}, modes: noMode, run: func(ctx context.Context, b *bench, t *trial) (outcome, error) {
		var out []*kgo.Record
		records, err := readAll(ctx, b.broker, t.data.topic, t.data.records)
		for _, r := range records {
			if r.Partition != 0 || r.Offset < int64(t.data.records/partitions-lost) {
				out = append(out, &kgo.Record{Topic: t.target, Partition: r.Partition, Value: r.Value, Timestamp: r.Timestamp})
			}
		}
		return outcome{elapsed: time.Second, cpu: time.Second}, errors.Join(err, b.broker.client.ProduceSync(ctx, out...).FirstErr())
	}}
}

// Contestants take turns in being first; the output of each run is compared, and topics do not stay.
func TestOnData(t *testing.T) {
	ctx, closed := testContext(t), 0
	b := &bench{opts: options{repeats: 2}, broker: fakeBroker(t), progress: io.Discard}
	b.broker.pid = os.Getpid()
	good, bad := copies("good", 0), copies("bad", 1)
	good.close = func() error { closed++; return nil }
	p := plan{datasetSpec{lines, 100, lz4, 400}, []*job{jobByName(casePass)}}
	runs, err := b.onData(ctx, p, []*contestant{good, bad}, map[string]bool{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range runs {
		got = append(got, fmt.Sprintf("%d %s %s %t", r.Round, r.Contestant, r.Compression, r.Wrong == ""))
	}
	if want := []string{"1 good lz4 true", "1 bad lz4 false", "2 bad lz4 false", "2 good lz4 true"}; !slices.Equal(got, want) {
		t.Errorf("runs %q, want %q", got, want)
	}
	if topics, err := b.broker.admin.ListTopics(ctx); err != nil || len(topics.Names()) != 0 || closed != 1 {
		t.Errorf("topics %v stay, %v; closed %d times", topics.Names(), err, closed)
	}
	broken := errors.New("broken")
	good.run = func(context.Context, *bench, *trial) (outcome, error) { return outcome{}, broken }
	if _, err := b.onData(ctx, p, []*contestant{good}, map[string]bool{casePass: true}); !errors.Is(err, broken) || closed != 2 {
		t.Errorf("a contestant that breaks: %v; closed %d times", err, closed)
	}
}

func readAll(ctx context.Context, b *broker, topic string, n int) (out []*kgo.Record, err error) {
	reader, err := kgo.NewClient(b.options(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	for len(out) < n && err == nil {
		fetches := reader.PollFetches(ctx)
		out, err = append(out, fetches.Records()...), fetches.Err()
	}
	return out, err
}
