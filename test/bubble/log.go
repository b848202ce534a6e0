package bubble

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// Message is a record of a log.
type Message struct{ Key, Value string }

// Log is a broker in memory: topics with partitions, and a transaction coordinator. It belongs to no host and
// never fails by itself. Who reads it sees committed records only.
type Log struct {
	// MarkerDelay is how long a transaction that ends is busy until its markers are written.
	MarkerDelay time.Duration
	travel      *travel

	mu     sync.Mutex
	topics map[string][]*partition
	// ids are the transactional ids that were ever initialised; owners says whose a producer id is.
	ids          map[string]*transactionalID
	owners       map[int64]*transactionalID
	lastProducer int64
	// changed is closed and replaced when records arrive or acks are let go.
	changed  chan struct{}
	holdAcks bool
}

// NewLog makes an empty broker.
func NewLog() *Log {
	return &Log{
		MarkerDelay: 15 * time.Millisecond, travel: newTravel(), topics: map[string][]*partition{}, ids: map[string]*transactionalID{},
		owners: map[int64]*transactionalID{}, changed: make(chan struct{}),
	}
}

// Close waits for the calls that are still on their way.
func (l *Log) Close() { l.travel.close() }

// Create makes a topic, or gives one that is there more partitions.
func (l *Log) Create(topic string, partitions int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range partitions {
		l.topics[topic] = append(l.topics[topic], newPartition())
	}
}

// partitionOf is where a key belongs.
func partitionOf(key string, partitions int) int32 {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int32(int(h.Sum32()) % partitions)
}

// Append adds records, by the hash of their keys.
func (l *Log) Append(topic string, messages ...Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	parts := l.topics[topic]
	for _, m := range messages {
		p := parts[partitionOf(m.Key, len(parts))]
		p.entries = append(p.entries, entry{Message: m})
	}
	l.signal()
}

// Fill appends n records over the given number of keys, k0 onwards.
func (l *Log) Fill(topic string, n, keys int) {
	messages := make([]Message, n)
	for i := range messages {
		messages[i] = Message{Key: fmt.Sprintf("k%d", i%keys), Value: strconv.Itoa(i)}
	}
	l.Append(topic, messages...)
}

// HoldAcks lets sinks wait for the acknowledgement of what they write, until it is called with false.
func (l *Log) HoldAcks(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holdAcks = on
	l.signal()
}

// wake lets readers look again.
func (l *Log) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.signal()
}

func (l *Log) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) partitions(topic string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.topics[topic])
}

// topicsOf are the topics that a source reads.
func (l *Log) topicsOf(s *graph.Source) []string {
	if s.Kafka.TopicPattern == "" {
		return s.Kafka.Topics
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(l.topics)), func(topic string) bool { return !s.ReadsTopic(topic) })
}

// End is the next offset of a partition that a reader can come to.
func (l *Log) End(topic string, partition int32) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	return l.topics[topic][partition].stable()
}

// located is a record and its offset.
type located struct {
	Message
	offset int64
}

// read is what is visible of at most limit offsets from offset on, the offset behind it, and when to look
// again if it has not moved.
func (l *Log) read(topic string, partition int32, offset int64, limit int) (out []located, next int64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	p := l.topics[topic][partition]
	next = max(offset, min(offset+int64(limit), p.stable()))
	for at := offset; at < next; at++ {
		if e := &p.entries[at]; e.visible() {
			out = append(out, located{e.Message, at})
		}
	}
	return out, next, l.changed
}

// acks says whether acknowledgements are held back, and when that may have changed.
func (l *Log) acks() (held bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holdAcks, l.changed
}

// All is every visible record of a topic, by partition.
func (l *Log) All(topic string) []Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	var out []Message
	for _, p := range l.topics[topic] {
		for at := range p.stable() {
			if e := &p.entries[at]; e.visible() {
				out = append(out, e.Message)
			}
		}
	}
	return out
}

// Counts checks the output of a running count: for each key every number from 1 to the largest one must be
// there (at least once). It returns the largest per key.
func (l *Log) Counts(topic string) (map[string]int, error) {
	seen := map[string]map[int]bool{}
	for _, m := range l.All(topic) {
		n, err := strconv.Atoi(m.Value)
		if err != nil {
			return nil, fmt.Errorf("count of %s: %w", m.Key, err)
		}
		if seen[m.Key] == nil {
			seen[m.Key] = map[int]bool{}
		}
		seen[m.Key][n] = true
	}
	largest := map[string]int{}
	for key, numbers := range seen {
		for n := range numbers {
			largest[key] = max(largest[key], n)
		}
		if len(numbers) != largest[key] || numbers[0] {
			return nil, fmt.Errorf("key %s has %d different counts up to %d", key, len(numbers), largest[key])
		}
	}
	return largest, nil
}

// ExactCounts checks the output of a running count that is exactly-once: for each key the numbers from 1 on,
// each once, in this order. It returns the largest per key, and everything that is wrong.
func (l *Log) ExactCounts(topic string) (map[string]int, error) {
	largest := map[string]int{}
	var errs []error
	for _, m := range l.All(topic) {
		n, err := strconv.Atoi(m.Value)
		switch want := largest[m.Key] + 1; {
		case err != nil:
			errs = append(errs, fmt.Errorf("count of %s: %w", m.Key, err))
		case n < want:
			errs = append(errs, fmt.Errorf("key %s: %d comes again or too late, after %d", m.Key, n, want-1))
		case n > want:
			errs = append(errs, fmt.Errorf("key %s: %d follows on %d, some are missing", m.Key, n, want-1))
			largest[m.Key] = n
		default:
			largest[m.Key] = n
		}
	}
	if n := len(errs); n > 10 {
		errs = append(errs[:10], fmt.Errorf("and %d more", n-10))
	}
	return largest, errors.Join(errs...)
}
