package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/bench/figures"
)

// latencyAt is a run in which every record took this long.
func latencyAt(guarantee string, perSec int, took float64) LatencyReport {
	var h histogram
	for range 1000 {
		h.add(time.Duration(took * float64(time.Millisecond)))
	}
	return LatencyReport{Guarantee: guarantee, RecordsPerSec: perSec, LatencyMs: h.distribution()}
}

func TestHistogramRanges(t *testing.T) {
	last := -1
	for v := int64(0); v <= maxMicros; v += max(1, v/500) {
		i := rangeOf(v)
		if i < last || i > last+1 {
			t.Fatalf("value %d is in range %d behind %d", v, i, last)
		}
		if end := endOfRange(i); end < v || float64(end-v) > float64(v)/subRanges || rangeOf(end) != i || rangeOf(end+1) != i+1 {
			t.Fatalf("value %d is in range %d, which ends at %d", v, i, end)
		}
		last = i
	}
}

// Quantiles are those of the values themselves within one percent, and never smaller.
func TestHistogramQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	var values []float64
	for range 50_000 {
		d := time.Duration(math.Exp(random.NormFloat64()*2+9)) * time.Microsecond // 8 ms, with a long tail
		h.add(d)
		values = append(values, figures.Ms(d))
	}
	slices.Sort(values)
	d := h.distribution()
	if d.N != len(values) || d.Min != values[0] || d.Max != values[len(values)-1] {
		t.Errorf("%+v, want %d values from %g to %g", d.Sample, len(values), values[0], values[len(values)-1])
	}
	check := func(q, got float64) {
		want := values[max(0, int(math.Ceil(q*float64(len(values))))-1)]
		if got < want || got > want*1.01 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	check(0.5, d.Median)
	check(0.99, d.P99)
	check(0.999, d.P999)
	for _, q := range d.Quantiles {
		check(q.At, q.Value)
	}
	if last := d.Quantiles[len(d.Quantiles)-1].At; last != 0.9995 {
		t.Errorf("the last of %d values is at %g: fewer than %d lie beyond", len(values), last, fewestBeyond)
	}
	if empty := new(histogram).distribution(); empty.N != 0 || empty.Max != 0 || len(empty.Quantiles) != 0 {
		t.Errorf("of nothing: %+v", empty)
	}
}

// Each record is due at a time of its own, and is counted as due from then on.
func TestSchedule(t *testing.T) {
	start := time.Unix(1_700_000_000, 7)
	for _, rate := range []int{1, 3, 1000, 333_333, 1_000_003} {
		tr := &traffic{start: start, rate: rate}
		for _, i := range []int{0, 1, 2, 999, 1000, 12_345_678} {
			due := tr.due(i)
			if before, after := tr.dueBy(due), tr.dueBy(due.Add(1)); before != i || after != i+1 {
				t.Errorf("rate %d: record %d is due at %s; %d are due before then, %d a nanosecond later", rate, i, due.Sub(start), before, after)
			}
		}
		if n := tr.dueBy(start.Add(-time.Second)); n != 0 {
			t.Errorf("rate %d: %d are due before the start", rate, n)
		}
		if n := tr.dueBy(start.Add(time.Hour)); n != 3600*rate {
			t.Errorf("rate %d: %d are due in an hour", rate, n)
		}
	}
}

// idleTraffic has a schedule and neither a producer nor a consumer.
func idleTraffic(rate int) *traffic {
	return &traffic{start: time.Now(), rate: rate, news: make(chan struct{}, 1), armedAt: time.Unix(1<<40, 0)}
}

// arrive is what the consumer does with a record.
func (t *traffic) arrive(i int, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.see(&kgo.Record{Value: stamp(t.due(i), i), Timestamp: t.due(i).Add(time.Hour)}, t.due(i).Add(delay))
}

// Delays are from when a record was due, not from when it was written, and of all the records that were due.
func TestTimingIsCompleteAndFromDue(t *testing.T) {
	tr := idleTraffic(1000)
	tr.start = tr.start.Add(-time.Minute)
	tr.arrive(100, time.Hour)
	tr.beginTiming()
	from := tr.timing.from
	if from < 60_000 {
		t.Fatalf("timed from record %d", from)
	}
	tr.arrive(from-1, time.Hour)
	tr.arrive(from, 20*time.Millisecond)
	tr.start = tr.start.Add(-time.Second) // a second goes by
	var reading sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	reading.Go(func() {
		for i := from + 1; ctx.Err() == nil; {
			for due := tr.dueBy(time.Now()); i < due; i++ {
				tr.arrive(i, 40*time.Millisecond)
			}
		}
	})
	delays, _, err := tr.endTiming(ctx)
	stop()
	reading.Wait()
	if err != nil || delays.N < 1000 || delays.Min != 20 || delays.Max != 40 || tr.timing != nil {
		t.Fatalf("%+v, %v; still timing: %v", delays.Sample, err, tr.timing)
	}
}

func TestTimingMissesNoRecord(t *testing.T) {
	tr := idleTraffic(1000)
	tr.beginTiming()
	tr.start = tr.start.Add(-time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, _, err := tr.endTiming(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "0 of 1") {
		t.Errorf("nothing has been read: %v", err)
	}
	tr = idleTraffic(1)
	tr.beginTiming()
	tr.arrive(tr.timing.from, 0)
	tr.arrive(tr.timing.from, 0)
	tr.start = tr.start.Add(-time.Second)
	if _, _, err := tr.endTiming(t.Context()); err == nil || !strings.Contains(err.Error(), "some twice") {
		t.Errorf("a record was read twice: %v", err)
	}
}

// A generator without a schedule writes as fast as it can, and what arrives is counted.
func TestReadRate(t *testing.T) {
	ctx, b := testContext(t), fakeBroker(t)
	tr, err := startTraffic(ctx, b, "flood", unlimited, latencyTick)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tr.close(); err != nil {
			t.Error(err)
		}
	}()
	tr.mu.Lock()
	w := &timing{to: math.MaxInt}
	tr.timing = w
	tr.mu.Unlock()
	var records []*kgo.Record
	for i := range 400 {
		records = append(records, &kgo.Record{Topic: tr.target, Partition: int32(i % partitions), Value: stamp(time.Now(), i)})
	}
	b.cluster.Produce(t, records)
	for read := int64(0); read < 400; {
		if err := pause(ctx, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		tr.mu.Lock()
		read = w.delays.n
		tr.mu.Unlock()
	}
	for {
		ends, err := b.ends(ctx, tr.source)
		if err != nil {
			t.Fatal(err)
		}
		if ends[0] > 1000 {
			break
		}
	}
}

func TestLatencyRates(t *testing.T) {
	got, err := parseLatencyRates([]string{"1000", "50%"})
	if err != nil || !slices.Equal(got, []latencyRate{{perSec: 1000}, {percent: 50}}) || got[0].String() != "1000" || got[1].String() != "50%" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "0", "-1", "101%", "x", "1.5", "%"} {
		if _, err := parseLatencyRates([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
