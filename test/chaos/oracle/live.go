package oracle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// readerStyle is how a live reader fetches; the two differ so that they meet different moments of the log.
type readerStyle struct {
	wait                        time.Duration
	minBytes, maxPartitionBytes int32
}

var readerStyles = []readerStyle{
	{wait: 100 * time.Millisecond, minBytes: 1, maxPartitionBytes: 4 << 20},
	{wait: 500 * time.Millisecond, minBytes: 64 << 10, maxPartitionBytes: 256 << 10},
}

// catchUpTimeout is how long a live reader may need for the end of the output when everything is still.
const catchUpTimeout = 15 * time.Second

// liveReader is a read_committed consumer without a group that runs beside the job.
type liveReader struct {
	client *kgo.Client

	mu       sync.Mutex
	saw      sightings
	arrivals map[int32][]time.Time // by partition: when a fetch brought something
	lost     []string              // what the client says it could not read
	lastErr  error                 // the client goes on after it
}

// maxFetchBytes is more than all partitions of an answer come to: kfake leaves out the aborted transactions of
// the partition at which this limit cuts it off, and its aborted records would look committed.
const maxFetchBytes = 256 << 20

// readerOptions are shared by all readers of the oracle. Short timeouts: a stopped broker must not look
// like a hanging transaction for longer than it takes to find the new leader.
func readerOptions(brokers []string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DialTimeout(3 * time.Second), kgo.RequestTimeoutOverhead(3 * time.Second), kgo.MetadataMaxAge(2 * time.Second),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
		kgo.DisableClientMetrics(), kgo.FetchMaxBytes(maxFetchBytes), kgo.BrokerMaxReadBytes(maxFetchBytes + 1<<20),
	}
}

func newLiveReader(brokers []string, topic string, style readerStyle) (*liveReader, error) {
	client, err := kgo.NewClient(append(readerOptions(brokers), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(style.wait),
		kgo.FetchMinBytes(style.minBytes), kgo.FetchMaxPartitionBytes(style.maxPartitionBytes))...)
	if err != nil {
		return nil, fmt.Errorf("live reader of %s: %w", topic, err)
	}
	return &liveReader{client: client, saw: newSightings(), arrivals: map[int32][]time.Time{}}, nil
}

func (l *liveReader) close() { l.client.Close() }

// run reads until ctx ends.
func (l *liveReader) run(ctx context.Context) {
	for {
		fetches := l.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		l.take(fetches, time.Now())
	}
}

// take notes what came. The client compares its position with the log by the epoch of the last record that it gave out:
// aborted records and markers behind that one, of a later epoch, look lost to it. A loss is of what it gave out.
func (l *liveReader) take(fetches kgo.Fetches, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fetches.EachError(func(_ string, partition int32, err error) {
		l.lastErr = err
		var loss *kgo.ErrDataLoss
		if errors.As(err, &loss) && l.saw.last(partition) >= loss.ResetTo && len(l.lost) < maxExamples {
			l.lost = append(l.lost, fmt.Sprintf("live reader: the output lost records, partition %d: %v", partition, err))
		}
	})
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		for _, r := range p.Records {
			l.saw.add(r.Partition, r.Offset, sumOfRecord(r))
		}
		if len(p.Records) > 0 {
			l.arrivals[p.Partition] = append(l.arrivals[p.Partition], now)
		}
	})
}

// awaitEnd waits until the reader has seen the end of the final scan; for catchUpTimeout at most, as a reader
// that hangs is a finding, not an error.
func (l *liveReader) awaitEnd(ctx context.Context, final *sightings) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !l.atEnd(final) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *liveReader) atEnd(final *sightings) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range final.partitions {
		if l.saw.last(p) < final.last(p) {
			return false
		}
	}
	return true
}

// nextArrival is when the reader first got a record after a moment.
func (l *liveReader) nextArrival(after time.Time) (first time.Time, any bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range l.arrivals {
		i, _ := slices.BinarySearchFunc(times, after, func(at, after time.Time) int {
			if at.After(after) {
				return 1
			}
			return -1
		})
		if i < len(times) && (!any || times[i].Before(first)) {
			first, any = times[i], true
		}
	}
	return first, any
}

// longestStall is Report.LSOStallMs for this reader. Without the end of the load (zero) it counts to the last
// record.
func (l *liveReader) longestStall(stopped time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var longest time.Duration
	for _, times := range l.arrivals {
		for i, at := range times {
			end := stopped
			if i+1 < len(times) && (stopped.IsZero() || times[i+1].Before(stopped)) {
				end = times[i+1]
			}
			longest = max(longest, end.Sub(at)) // negative after the end of the load
		}
	}
	return longest
}

// problems is what the client of the reader complained of; other errors than a loss are said only if the
// reader also saw something wrong.
func (l *liveReader) problems(mismatch bool) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	said := slices.Clone(l.lost)
	if mismatch && l.lastErr != nil {
		said = append(said, fmt.Sprintf("live reader: last error of its client: %v", l.lastErr))
	}
	return said
}
