package workload_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/sluice-stream/sluice/test/chaos/workload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValue(t *testing.T) {
	for _, v := range []workload.Value{
		{Partition: 0, Seq: 0, Fan: 0, Payload: []byte{}},
		{Partition: 7, Seq: 1 << 40, Fan: 3, Payload: []byte("abc def")},
		{Partition: 7, Seq: 5, Fan: workload.Filtered, Payload: []byte("x|y")},
	} {
		text := v.Append(nil)
		got, err := workload.ParseValue(text)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(v) {
			t.Errorf("%q reads as %v, %v; want %v", text, got, err, v)
		}
		for i := range text {
			changed := bytes.Clone(text)
			changed[i] ^= 1
			if _, err := workload.ParseValue(changed); err == nil && !strings.EqualFold(string(changed), string(text)) {
				t.Errorf("%q passes for a value, made of %q", changed, text)
			}
		}
	}
	for _, text := range []string{"", "1|2|3", "a|0|0|00000000|", "0|a|0|00000000|", "0|0|-2|00000000|", "0|0|0|zz|"} {
		if _, err := workload.ParseValue([]byte(text)); err == nil {
			t.Errorf("%q passes for a value", text)
		}
	}
}

func TestStamp(t *testing.T) {
	got, err := workload.ParseStamp([]byte("run-in/3/77"), []byte("2"))
	if want := (workload.Stamp{Topic: "run-in", Partition: 3, Offset: 77, Emit: 2}); err != nil || got != want {
		t.Errorf("stamp %v, %v, want %v", got, err, want)
	}
	for _, bad := range [][2]string{{"", ""}, {"t/1", "0"}, {"t/1/2/3", "0"}, {"t/x/2", "0"}, {"t/1/x", "0"}, {"t/1/2", ""}, {"t/1/-2", "0"}, {"t/1/2", "-1"}} {
		if s, err := workload.ParseStamp([]byte(bad[0]), []byte(bad[1])); err == nil {
			t.Errorf("%q passes for a stamp: %v", bad, s)
		}
	}
}

func TestExpected(t *testing.T) {
	three := workload.Value{Partition: 1, Seq: 2, Fan: 3, Payload: []byte("pay")}.Append(nil)
	none := workload.Value{Fan: 0}.Append(nil)
	dropped := workload.Value{Fan: workload.Filtered}.Append(nil)
	for _, c := range []struct {
		kind  workload.Kind
		value []byte
		want  []string
	}{
		{workload.A, three, []string{"k=" + string(three)}},
		{workload.A, dropped, []string{"k=" + string(dropped)}},
		{workload.D, three, []string{"k=" + string(three)}},
		{workload.B, three, []string{"k="}},
		{workload.C, three, []string{"k=0|" + string(three), "k=1|" + string(three), "k=2|" + string(three)}},
		{workload.C, none, nil},
		{workload.C, dropped, nil},
	} {
		w := newWorkload(t, c.kind)
		outputs, err := w.Expected(workload.Record{Key: []byte("k"), Value: c.value})
		var got []string
		for _, o := range outputs {
			got = append(got, string(o.Key)+"="+string(o.Value))
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s makes %q of %q, %v; want %q", c.kind, got, c.value, err, c.want)
		}
	}
	if _, err := newWorkload(t, workload.A).Expected(workload.Record{Value: []byte("?")}); err == nil {
		t.Error("a value that nobody generated has outputs")
	}
}

func TestForSeed(t *testing.T) {
	got := ""
	for seed := range int64(6) {
		got += string(workload.ForSeed(seed))
	}
	if got != "ABCABC" {
		t.Errorf("seeds 0 to 5 run %s, want ABCABC", got)
	}
	if _, err := workload.Parse("E"); err == nil {
		t.Error("workload E exists")
	}
}

func newWorkload(t *testing.T, kind workload.Kind) *workload.Workload {
	t.Helper()
	w, err := workload.New(kind, workload.Params{Name: "run", Brokers: "localhost:9092", Guarantee: "at-least-once"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestGenerator checks the mixture that the brokers get, by reading it back.
func TestGenerator(t *testing.T) {
	w := newWorkload(t, workload.A)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.CreateTopics(ctx, cluster.ListenAddrs()...); err != nil {
		t.Fatal(err)
	}
	g, err := w.NewGenerator(workload.Load{Brokers: cluster.ListenAddrs(), Seed: 7, Rate: 4000, LargeEvery: 1000})
	if err != nil {
		t.Fatal(err)
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var watching sync.WaitGroup
	watching.Go(func() {
		defer stop()
		for s := g.Stats(); loading.Err() == nil && (s.Acknowledged < 5000 || s.Aborted == 0); s = g.Stats() {
			time.Sleep(50 * time.Millisecond)
		}
	})
	err = g.Run(loading)
	watching.Wait()
	if err != nil {
		t.Fatal(err)
	}
	s := g.Stats()
	if s.Acknowledged < 5000 || s.Unknown != 0 || s.Aborted == 0 {
		t.Errorf("%+v, want thousands acknowledged, some aborted, none unknown", s)
	}
	journal := g.Journal()
	if got, want := int64(len(journal)), s.Acknowledged-g.Acknowledged(); got != want || got == 0 {
		t.Errorf("%d records in the journal, want %d", got, want)
	}
	checkInput(t, ctx, cluster.ListenAddrs(), w, g)
}

func checkInput(t *testing.T, ctx context.Context, brokers []string, w *workload.Workload, g *workload.Generator) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(w.In()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	seen, codecs, sizes, fans := map[string]bool{}, map[uint8]int{}, map[int]int{}, map[int]int{}
	for int64(len(seen)) < g.Acknowledged() {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(seen), g.Acknowledged(), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			v, err := workload.ParseValue(r.Value)
			if id := fmt.Sprint(v.Partition, v.Seq); err != nil || v.Partition != r.Partition || seen[id] {
				t.Errorf("record %d of partition %d: %v, seen before %v", r.Offset, r.Partition, err, seen[id])
			} else {
				seen[id] = true
			}
			codecs[r.Attrs.CompressionType()]++
			sizes[len(v.Payload)]++
			fans[v.Fan]++
		})
	}
	if len(codecs) != 5 || len(sizes) != 3 || len(fans) != 5 {
		t.Errorf("compressions %v, sizes %v, fans %v: want 5, 3 and 5 different ones", codecs, sizes, fans)
	}
}
