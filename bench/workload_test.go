package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/bench/figures"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// fakeBroker is kfake behind the type that the benchmark uses.
func fakeBroker(t *testing.T) *broker {
	t.Helper()
	cluster := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake})
	b := &broker{cluster: cluster, addr: cluster.Addr()}
	var err error
	if b.client, err = kgo.NewClient(b.options()...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	b.admin = kadm.NewClient(b.client)
	return b
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("the test took too long"))
	t.Cleanup(cancel)
	return ctx
}

func TestValues(t *testing.T) {
	for _, size := range []int{minValueBytes, 100, 1024, maxValueBytes} {
		g, warnings, seen := newGenerator(), 0, map[string]bool{}
		const n = 400
		for i := range n {
			value := make([]byte, size)
			g.fill(lines, value, i)
			if seq, err := seqOf(value); err != nil || seq != i {
				t.Fatalf("%d bytes: number of %q is %d, %v; want %d", size, value, seq, err, i)
			}
			if strings.HasPrefix(string(value), infoStart) == isWarning(i) {
				t.Fatalf("%d bytes: record %d is %q, warning %t", size, i, value, isWarning(i))
			}
			if strings.ContainsFunc(string(value), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%d bytes: record %d is not plain text: %q", size, i, value)
			}
			if isWarning(i) {
				warnings++
			}
			seen[string(value)] = true
		}
		if len(seen) != n || warnings != n/warnOneIn {
			t.Errorf("%d bytes: %d different values, %d warnings; want %d and %d", size, len(seen), warnings, n, n/warnOneIn)
		}
	}
}

func TestVerifySeesWhatIsWrong(t *testing.T) {
	ctx, b := testContext(t), fakeBroker(t)
	data, err := fillTopic(ctx, b, "in", datasetSpec{lines, 100, noCompression, 4000})
	if err != nil {
		t.Fatal(err)
	}
	if data.all.total() != 4000 || data.kept.total() != 3000 {
		t.Fatalf("filled %d records, %d to pass the filter; want 4000 and 3000", data.all.total(), data.kept.total())
	}
	if wrong, err := verify(ctx, b, "in", &data.all); err != nil || wrong != "" {
		t.Fatalf("the input is %q, %v", wrong, err)
	}
	records := b.cluster.Read(t, "in") // ordered by partition and offset
	cases := []struct {
		name, want string
		change     func(r []*kgo.Record) []*kgo.Record
	}{
		{"nothing", "", func(r []*kgo.Record) []*kgo.Record { return r }},
		{"lost", "records per partition", func(r []*kgo.Record) []*kgo.Record { return append(r[:7:7], r[8:]...) }},
		{"duplicate", "partition 0, offset 8: record 28 after record 28", func(r []*kgo.Record) []*kgo.Record { return append(append(r[:8:8], r[7]), r[8:]...) }},
		{"order", "offset 8: record 28 after record 32", func(r []*kgo.Record) []*kgo.Record { r[7], r[8] = r[8], r[7]; return r }},
		{"value", "differs", func(r []*kgo.Record) []*kgo.Record { r[7].Value[0] ^= 1; return r }},
		{"timestamp", "differs", func(r []*kgo.Record) []*kgo.Record {
			r[7].Timestamp = r[7].Timestamp.Add(time.Millisecond)
			return r
		}},
		{"key", "differs", func(r []*kgo.Record) []*kgo.Record { r[7].Key = []byte{0}; return r }},
		{"partition", "records per partition", func(r []*kgo.Record) []*kgo.Record { r[7].Partition = 1; return r }},
		{"short", "value of 3 bytes", func(r []*kgo.Record) []*kgo.Record { r[7].Value = []byte("123"); return r }},
		{"empty", "[0 0 0 0] records per partition", func([]*kgo.Record) []*kgo.Record { return nil }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := b.createTopic(ctx, c.name); err != nil {
				t.Fatal(err)
			}
			var copies []*kgo.Record
			for _, r := range records {
				copies = append(copies, &kgo.Record{Topic: c.name, Partition: r.Partition, Value: append([]byte{}, r.Value...), Timestamp: r.Timestamp})
			}
			b.cluster.Produce(t, c.change(copies))
			wrong, err := verify(ctx, b, c.name, &data.all)
			if err != nil || !strings.Contains(wrong, c.want) || (wrong == "") != (c.want == "") {
				t.Errorf("verify says %q, %v; want %q", wrong, err, c.want)
			}
		})
	}
}

// What the objects say is what the JSON job makes of them.
func TestObjects(t *testing.T) {
	f := newFiller("in", datasetSpec{objects, objectBytes, noCompression, 4000})
	want := digest{}
	for _, r := range f.slab(0, 4000, time.UnixMilli(1000)) {
		var in struct {
			ID, Status, DurationMs int
			Level, Region, Seq     string
		}
		if err := json.Unmarshal(r.Value, &in); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		if seq, err := seqOf(r.Value); err != nil || seq != in.ID || fmt.Sprintf("%012d", in.ID) != in.Seq || len(r.Value) != objectBytes {
			t.Fatalf("record %d is %s", seq, r.Value)
		}
		if (in.Status < 500) != (in.Level == "info") {
			t.Fatalf("%s", r.Value)
		}
		if in.Status < 500 {
			out := fmt.Appendf(nil, `{"durationMs":%d,"late":%t,"region":"%s","seq":"%s"}`, in.DurationMs, in.DurationMs > lateAfterMs, in.Region, in.Seq)
			want.add(r.Partition, nil, out, r.Timestamp.UnixMilli())
		}
	}
	if f.data.kept != want || want.total() != 3000 {
		t.Errorf("kept %+v, want %+v", f.data.kept, want)
	}
}

func TestCountsAreChecked(t *testing.T) {
	f := newFiller("in", datasetSpec{keyed, keyedBytes, noCompression, 2000})
	seen, right := map[string]int{}, []*kgo.Record{}
	twice := "" // a key that comes twice
	for _, r := range f.slab(0, 2000, time.UnixMilli(1000)) {
		key := string(r.Key)
		if seen[key]++; seen[key] == 2 {
			twice = key
		}
		partition := int32(key[len(key)-1]-'0') % partitions
		right = append(right, &kgo.Record{Partition: partition, Key: r.Key, Value: []byte(strconv.Itoa(seen[key]))})
	}
	if f.data.counts.total() != 2000 || twice == "" {
		t.Fatalf("%d records, %q comes twice", f.data.counts.total(), twice)
	}
	at := slices.IndexFunc(right, func(r *kgo.Record) bool { return string(r.Key) == twice && string(r.Value) == "2" })
	for name, c := range map[string]struct {
		change func(r *kgo.Record)
		want   string
	}{
		"nothing":   {func(*kgo.Record) {}, ""},
		"count":     {func(r *kgo.Record) { r.Value = []byte("3") }, "is 3 after 1"},
		"repeat":    {func(r *kgo.Record) { r.Value = []byte("1") }, "is 1 after 1"},
		"text":      {func(r *kgo.Record) { r.Value = []byte("two") }, "the count of " + twice},
		"partition": {func(r *kgo.Record) { r.Partition = (r.Partition + 1) % partitions }, twice + " was in partition"},
		"key":       {func(r *kgo.Record) { r.Key = []byte("key-00100000") }, "is none of the input"},
		"no key":    {func(r *kgo.Record) { r.Key = nil }, "is none of the input"},
	} {
		check := f.data.counts.checker()
		for i, r := range right {
			changed := *r
			if i == at {
				c.change(&changed)
			}
			check.add(&changed)
		}
		if wrong := check.wrong(); !strings.Contains(wrong, c.want) || (wrong == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", name, wrong, c.want)
		}
	}
	check := f.data.counts.checker()
	for i, r := range right {
		if i != at {
			check.add(r)
		}
	}
	if wrong := check.wrong(); wrong == "" {
		t.Error("a lost record is not noticed")
	}
}

func TestTrafficCountsOnlyNewRecords(t *testing.T) {
	ctx, b := testContext(t), fakeBroker(t)
	traffic, err := startTraffic(ctx, b, "traffic", 4000, trafficTick)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := traffic.close(); err != nil {
			t.Error(err)
		}
	}()
	old := time.Now()
	traffic.watch()
	write := func(made time.Time) {
		var records []*kgo.Record
		for p := range int32(partitions) {
			records = append(records, &kgo.Record{Topic: traffic.target, Partition: p, Value: stamp(made, 0)})
		}
		b.cluster.Produce(t, records)
	}
	write(old)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if arrived, err := traffic.all(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("records made before the watch count: %v, %v", arrived, err)
	}
	write(time.Now())
	arrived, err := traffic.all(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for p, at := range arrived {
		if at.Before(old) {
			t.Errorf("partition %d: arrived %s", p, at)
		}
	}
	ends, err := b.ends(ctx, traffic.source)
	if err != nil || ends[0] == 0 || ends[3] == 0 {
		t.Errorf("the source holds %v records, %v", ends, err)
	}
}

// A read_committed reader does not see what was aborted, and markers are not records.
func TestVerifyReadsCommitted(t *testing.T) {
	ctx, b := testContext(t), fakeBroker(t)
	data, err := fillTopic(ctx, b, "in", datasetSpec{lines, 100, lz4, 400})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.createTopic(ctx, "out"); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(b.options(kgo.DefaultProduceTopic("out"), kgo.TransactionalID("copy"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for _, r := range b.cluster.Read(t, "in") {
			client.Produce(ctx, &kgo.Record{Partition: r.Partition, Value: r.Value, Timestamp: r.Timestamp}, nil)
		}
		if err := errors.Join(client.Flush(ctx), client.EndTransaction(ctx, end)); err != nil {
			t.Fatal(err)
		}
	}
	if wrong, err := verify(ctx, b, "out", &data.all); err != nil || wrong != "" {
		t.Errorf("one committed copy between two aborted ones: %q, %v", wrong, err)
	}
}

func TestMarkerProbe(t *testing.T) {
	ctx, b := testContext(t), fakeBroker(t)
	p, err := startMarkerProbe(ctx, b, "marker", time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	var got []figures.Sample
	for ctx.Err() == nil && len(got) < 3 {
		if s := p.times(); s.N > 0 {
			got = append(got, s)
		}
		<-time.After(time.Millisecond)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range got {
		if s.Min < 0 || s.Max > 30_000 {
			t.Errorf("a marker took %+v", s)
		}
	}
	if len(got) < 3 {
		t.Errorf("measured %v, then nothing more", got)
	}
}
