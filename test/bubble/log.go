package bubble

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
)

// Message is a record of a log.
type Message struct{ Key, Value string }

// Log is a broker in memory: topics with partitions. It belongs to no host and never fails by itself.
type Log struct {
	mu     sync.Mutex
	topics map[string][][]Message
	// changed is closed and replaced when records arrive or acks are let go.
	changed  chan struct{}
	holdAcks bool
}

// NewLog makes an empty broker.
func NewLog() *Log { return &Log{topics: map[string][][]Message{}, changed: make(chan struct{})} }

// Create makes a topic.
func (l *Log) Create(topic string, partitions int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.topics[topic] = make([][]Message, partitions)
}

// Append adds records, by the hash of their keys.
func (l *Log) Append(topic string, messages ...Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	parts := l.topics[topic]
	for _, m := range messages {
		h := fnv.New32a()
		h.Write([]byte(m.Key))
		p := int(h.Sum32()) % len(parts)
		parts[p] = append(parts[p], m)
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

func (l *Log) signal() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) partitions(topic string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.topics[topic])
}

// End is the next offset of a partition.
func (l *Log) End(topic string, partition int32) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.topics[topic][partition]))
}

// read is at most limit records from offset on, and when to look again if there are none.
func (l *Log) read(topic string, partition int32, offset int64, limit int) ([]Message, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	part := l.topics[topic][partition]
	from := min(offset, int64(len(part)))
	to := min(from+int64(limit), int64(len(part)))
	return slices.Clone(part[from:to]), l.changed
}

// acks says whether acknowledgements are held back, and when that may have changed.
func (l *Log) acks() (held bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holdAcks, l.changed
}

// All is every record of a topic.
func (l *Log) All(topic string) []Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.topics[topic]...)
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
