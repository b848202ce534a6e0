package integration

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

func TestExactlyOnce(t *testing.T) {
	everyKafka(t, []testCase{
		{"faults in a row", faultsInARow},
		{"job manager crashes at every arrow of a checkpoint", crashAtEveryArrow},
		{"task manager crashes at every arrow of a checkpoint", crashWorkerAtEveryArrow},
		{"job manager crashes while a job ends", crashAtTheEnd},
		{"ends", everyEnd},
		{"cancel with a hung task manager", cancelHung},
		{"foreign producer fences once", fencedOnce},
		{"foreign producer fences three attempts", fencedThreeTimes},
		{"sealed transaction is lost", sealedTransactionLost},
		{"refusals", exactlyOnceRefusals},
	}, true)
}

// exactlyOnce makes a job of these tests exactly-once, with checkpoints at this interval.
func exactlyOnce(job, interval string) string {
	return strings.NewReplacer("guarantee: at-least-once", "guarantee: exactly-once",
		"interval: 100ms", "interval: "+interval, "interval: 200ms", "interval: "+interval).Replace(job)
}

const (
	// closeLimit is how long after the end of a job, or of the lease of a lost task manager, a transaction may
	// hold up the readers of an output.
	closeLimit = 5 * time.Second
	// shortHeartbeat is the heartbeat timeout of job managers whose task managers hang, to wait less.
	shortHeartbeat = 2 * time.Second
	// shortLease is when a job manager with it knows that a task manager has given up.
	shortLease = shortHeartbeat + time.Second
)

// feedEvery and feedRecords make 2,000 records/s. feedLeast is for the end of the feed: see feed.
const (
	feedEvery   = 20 * time.Millisecond
	feedRecords = 40
	feedLeast   = 4
)

// feed writes the records FROM..TO-1 of numbered at a steady rate until finish is called, which writes the
// rest at once. The last tenth is kept for that: a bounded job does not end before, however slow the machine.
func (r *rig) feed(t *testing.T, topic string, partitions, keys, from, to int) (finish func()) {
	t.Helper()
	records := r.numbered(topic, partitions, keys, from, to)
	reserve := (to - from) / 10
	client := r.kafka.Client(t)
	ctx, cancel := context.WithCancel(t.Context())
	var failure error
	var owned sync.WaitGroup
	owned.Go(func() {
		tick := time.NewTicker(feedEvery)
		defer tick.Stop()
		for len(records) > reserve && failure == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			left := len(records) - reserve
			n := min(feedRecords, max(feedLeast, left/500), left) // slower towards the end, so that a slow machine has data, too
			failure = client.ProduceSync(context.WithoutCancel(ctx), records[:n]...).FirstErr()
			records = records[n:]
		}
	})
	t.Cleanup(func() { cancel(); owned.Wait() })
	return func() {
		t.Helper()
		cancel()
		owned.Wait()
		if failure != nil {
			t.Fatalf("feeding %s: %v", topic, failure)
		}
		r.kafka.Produce(t, records)
	}
}

// openOffsets counts the offsets between the last stable offset and the high watermark of topics of this
// case: what readers with read_committed cannot pass.
func (r *rig) openOffsets(t *testing.T, admin *kadm.Client, topics ...string) (open int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range topics {
		stable, err := admin.ListCommittedOffsets(ctx, r.topic(name))
		if err != nil || stable.Error() != nil {
			t.Fatalf("last stable offsets of %s: %v %v", name, err, stable.Error())
		}
		ends, err := admin.ListEndOffsets(ctx, r.topic(name))
		if err != nil || ends.Error() != nil {
			t.Fatalf("high watermarks of %s: %v %v", name, err, ends.Error())
		}
		ends.Each(func(end kadm.ListedOffset) {
			at, ok := stable.Lookup(end.Topic, end.Partition)
			if !ok {
				t.Fatalf("no last stable offset of %s/%d", end.Topic, end.Partition)
			}
			open += end.Offset - at.Offset
		})
	}
	return open
}

// waitClosed waits until no transaction is open in topics of this case.
func (r *rig) waitClosed(t *testing.T, within time.Duration, topics ...string) {
	t.Helper()
	admin := kadm.NewClient(r.kafka.Client(t))
	began := time.Now()
	for open := r.openOffsets(t, admin, topics...); open > 0; open = r.openOffsets(t, admin, topics...) {
		if time.Since(began) > within {
			t.Errorf("after %s readers of %v still cannot pass %d offsets: a transaction is open", within, topics, open)
			r.describeOpen(t, admin, topics...)
			return
		}
		time.Sleep(pollEvery)
	}
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Logf("all transactions in %v were over after %d ms", topics, took.Milliseconds())
	}
}

// describeOpen logs who holds transactions open in topics of this case, and how the coordinator sees it.
func (r *rig) describeOpen(t *testing.T, admin *kadm.Client, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range topics {
		set := kadm.TopicsSet{}
		set.Add(r.topic(name))
		producers, err := admin.DescribeProducers(ctx, set)
		if err != nil {
			t.Logf("describe the producers of %s: %v", name, err)
		}
		for _, p := range producers.SortedProducers() {
			if p.CurrentTxnStartOffset >= 0 {
				t.Logf("open in %s: %+v", name, p)
			}
		}
	}
	all, err := admin.DescribeTransactions(ctx)
	t.Logf("transactions: %+v, %v", all.Sorted(), err)
}

// pollEvery is how often a test asks for what it waits for.
const pollEvery = 20 * time.Millisecond

// waitVisible waits until exactly these many records of a topic can be read.
func (r *rig) waitVisible(t *testing.T, topic string, want int64, within time.Duration) {
	t.Helper()
	began := time.Now()
	for {
		got := int64(len(r.kafka.Read(t, r.topic(topic))))
		if got == want {
			return
		}
		if time.Since(began) > within || got > want {
			t.Errorf("%d records of %s are visible after %s, want %d", got, topic, time.Since(began).Round(time.Millisecond), want)
			return
		}
		time.Sleep(pollEvery)
	}
}

// prefixOf checks that a topic of one partition holds the values 0, 1, 2, … in this order, and returns how
// many.
func (r *rig) prefixOf(t *testing.T, topic string) int64 {
	t.Helper()
	out := r.kafka.Read(t, r.topic(topic))
	for i, record := range out {
		if string(record.Value) != strconv.Itoa(i) {
			t.Errorf("%s: record %d is %q", topic, i, record.Value)
			break
		}
	}
	return int64(len(out))
}
