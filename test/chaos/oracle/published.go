package oracle

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// publishedEvery is how often the published offsets are looked at.
	publishedEvery = 250 * time.Millisecond
	// viewDelay is more than how long the job manager may show an older checkpoint than it has.
	viewDelay = 500 * time.Millisecond
	// wentBackFor is how long an offset has to stand behind where it stood: a broker that was cut off or stopped answers from
	// memory for a moment.
	wentBackFor = 3 * time.Second
	// publishedWithin is how long the offsets of the last checkpoint may take when the job has ended.
	publishedWithin = 10 * time.Second
)

// Offsets are by topic and partition.
type Offsets map[string]map[int32]int64

func (o Offsets) of(topic string, partition int32) (int64, bool) {
	offset, known := o[topic][partition]
	return offset, known
}

func (o Offsets) set(topic string, partition int32, offset int64) {
	if o[topic] == nil {
		o[topic] = map[int32]int64{}
	}
	o[topic][partition] = offset
}

// Published is where a job publishes its positions for others to see, and what it is compared with.
type Published struct {
	// Group is the consumer group; empty: nothing is watched.
	Group string
	// Completed asks the job manager for the positions of the newest completed checkpoint.
	Completed func(context.Context) (Offsets, error)
}

// publishedWatch looks at published offsets all the time: none is ahead of the newest completed checkpoint, and none goes back.
type publishedWatch struct {
	config Published
	client *kgo.Client
	fetch  func(context.Context) (Offsets, error)

	mu      sync.Mutex
	highest Offsets
	// behind is since when an offset has been behind its highest.
	behind   map[string]time.Time
	problems tally
	looked   int
}

func watchPublished(brokers []string, config Published) (*publishedWatch, error) {
	client, err := kgo.NewClient(readerOptions(brokers)...)
	if err != nil {
		return nil, fmt.Errorf("watching the offsets of group %s: %w", config.Group, err)
	}
	admin := kadm.NewClient(client)
	return newPublishedWatch(config, client, func(ctx context.Context) (Offsets, error) {
		fetched, err := admin.FetchOffsets(ctx, config.Group)
		if err == nil {
			err = fetched.Error()
		}
		all := Offsets{}
		fetched.Each(func(o kadm.OffsetResponse) {
			if o.At >= 0 {
				all.set(o.Topic, o.Partition, o.At)
			}
		})
		return all, err
	}), nil
}

func newPublishedWatch(config Published, client *kgo.Client, fetch func(context.Context) (Offsets, error)) *publishedWatch {
	return &publishedWatch{config: config, client: client, fetch: fetch, highest: Offsets{}, behind: map[string]time.Time{}}
}

// run looks until ctx ends. What cannot be asked, as brokers or the job manager are down, is no finding.
func (w *publishedWatch) run(ctx context.Context) {
	tick := time.NewTicker(publishedEvery)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look asks for the published offsets first: what was completed by then is completed afterwards, too. What seems to be ahead
// of it is looked at once more, as the job manager shows a checkpoint a little late.
func (w *publishedWatch) look(ctx context.Context) {
	published, err := w.fetch(ctx)
	if err != nil {
		return
	}
	now := time.Now()
	completed, err := w.config.Completed(ctx)
	if err == nil && len(ahead(published, completed)) > 0 {
		select {
		case <-time.After(viewDelay):
		case <-ctx.Done():
			return
		}
		completed, err = w.config.Completed(ctx)
	}
	if err != nil {
		completed = published // not known: nothing is ahead
	}
	w.compare(published, completed, now)
}

// ahead are the offsets that are published of more than is completed.
func ahead(published, completed Offsets) (out []string) {
	for topic, partitions := range published {
		for partition, offset := range partitions {
			if at, there := completed.of(topic, partition); !there || offset > at {
				out = append(out, fmt.Sprintf("%s/%d is published at %d, the newest completed checkpoint is at %d", topic, partition, offset, at))
			}
		}
	}
	return out
}

func (w *publishedWatch) compare(published, completed Offsets, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked++
	for topic, partitions := range published {
		for partition, offset := range partitions {
			name := fmt.Sprintf("%s/%d", topic, partition)
			if before, _ := w.highest.of(topic, partition); offset >= before {
				w.highest.set(topic, partition, offset)
				delete(w.behind, name)
			} else if since, already := w.behind[name]; !already {
				w.behind[name] = now
			} else if now.Sub(since) >= wentBackFor {
				w.problems.add("%s went back from %d to %d", name, before, offset)
			}
		}
	}
	for _, text := range ahead(published, completed) {
		w.problems.add("%s", text)
	}
}

// finish says what was found, and compares what is published with the last checkpoint of a job that has ended; if it ended in
// the middle, that may not be published.
func (w *publishedWatch) finish(ctx context.Context, ended bool) []string {
	if ended {
		if text := w.differs(ctx); text != "" {
			w.mu.Lock()
			w.problems.add("%s", text)
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looked == 0 {
		w.problems.add("they could never be looked at")
	}
	return w.problems.reasons("published offsets")
}

// differs waits until the offsets of the last checkpoint are published, and says what is not in time.
func (w *publishedWatch) differs(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, publishedWithin)
	defer cancel()
	for {
		text := w.difference(ctx)
		if text == "" {
			return ""
		}
		select {
		case <-time.After(publishedEvery):
		case <-ctx.Done():
			return fmt.Sprintf("%s, %s after the job's end", text, publishedWithin)
		}
	}
}

func (w *publishedWatch) difference(ctx context.Context) string {
	published, err := w.fetch(ctx)
	if err != nil {
		return err.Error()
	}
	completed, err := w.config.Completed(ctx)
	if err != nil {
		return err.Error()
	}
	var wrong []string
	for _, topic := range slices.Sorted(maps.Keys(completed)) {
		for _, partition := range slices.Sorted(maps.Keys(completed[topic])) {
			if at, there := published.of(topic, partition); !there || at != completed[topic][partition] {
				wrong = append(wrong, fmt.Sprintf("%s/%d is published at %d, the last checkpoint is at %d", topic, partition, at, completed[topic][partition]))
			}
		}
	}
	return strings.Join(wrong, ", ")
}

func (w *publishedWatch) close() {
	if w.client != nil {
		w.client.Close()
	}
}
