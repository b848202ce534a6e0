package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// route is where a record goes.
type route struct {
	topic     *topic
	partition int32 // or one of the following
}

// run is how many records of a batch, one after the other, go the same way.
type run struct {
	route
	count int
}

// push routes the next records of the batch at hand.
func (s *Sink) push(to route, count int) {
	if count == 0 {
		return
	}
	if n := len(s.runs); n > 0 && s.runs[n-1].route == to {
		s.runs[n-1].count += count
		return
	}
	s.runs = append(s.runs, run{to, count})
}

const (
	// anyPartition is for records without a key.
	anyPartition int32 = -1
	// leftOut is for records that an expression leaves out.
	leftOut int32 = -2
)

// target is the partition. Records without a key stay with one partition for a batch, then go on to the
// next (KIP-480). Under Sink.mu.
func (r route) target() *target {
	if r.partition != anyPartition {
		return r.topic.targets[r.partition]
	}
	t := r.topic
	if t.targets[t.sticky].open == nil {
		t.sticky = (t.sticky + 1) % int32(len(t.targets))
	}
	return t.targets[t.sticky]
}

// route finds the partition of every record of a batch, in runs. It belongs to the goroutine of Write and
// asks for the metadata of topics that are new.
func (s *Sink) route(ctx context.Context, b *operator.Batch) error {
	s.runs = s.runs[:0]
	from := 0
	if s.topicOf == nil && s.kafka.Partitioner == graph.Preserve && !s.cfg.Legacy {
		var err error
		if from, err = s.preserve(ctx, b); err != nil {
			return err
		}
	}
	for i := from; i < len(b.Records); i++ {
		r, err := s.routeOf(ctx, b, i)
		if errors.Is(err, ErrSkip) {
			r, err = route{partition: leftOut}, nil
		}
		if err != nil {
			return err
		}
		s.push(r, 1)
	}
	return nil
}

// preserve routes the records of a batch that stay in their partitions, up to the first that needs a closer look, and says
// how many that are. All records of an origin go the same way.
func (s *Sink) preserve(ctx context.Context, b *operator.Batch) (int, error) {
	t, err := s.topic(ctx, s.kafka.Topic)
	if err != nil {
		return 0, err
	}
	from, of := 0, -1 // of the records of one origin
	to := route{topic: t}
	for i := range b.Records {
		r := &b.Records[i]
		if r.SizeBytes() > s.cfg.Produce.MaxRecordBytes {
			s.push(to, i-from)
			return i, nil
		}
		if int(r.Origin) == of {
			continue
		}
		s.push(to, i-from)
		o := &b.Origins[r.Origin]
		if err := s.preserves(ctx, t, o.Topic, o.Partition); err != nil {
			return 0, err
		}
		from, of, to.partition = i, int(r.Origin), o.Partition
	}
	s.push(to, len(b.Records)-from)
	return len(b.Records), nil
}

// refused asks what becomes of a record that the sink cannot take because of a user's error: ErrSkip if it is
// left out.
func (s *Sink) refused(b *operator.Batch, i int, part string, cause *Error) error {
	if s.decide == nil {
		return cause
	}
	if err := s.decide(b, i, part, cause); err != nil {
		return err
	}
	return ErrSkip
}

// tooLarge is why a record is above max.request.size.
type tooLarge struct {
	sizeBytes, limitBytes int
	place                 string
}

// Error says how large the record is, and where it comes from.
func (e *tooLarge) Error() string {
	return fmt.Sprintf("a record of %d bytes (from %s) is above %s, which is %d", e.sizeBytes, e.place, propMaxRequest, e.limitBytes)
}

// RecordFault is the class of the fault in dead letters.
func (e *tooLarge) RecordFault() string { return "size" }

func (s *Sink) routeOf(ctx context.Context, b *operator.Batch, i int) (route, error) {
	name := s.kafka.Topic
	if (s.topicOf != nil || s.kafka.Partitioner == graph.ByExpression) && ctx.Err() != nil { // an expression may take long
		return route{}, context.Cause(ctx)
	}
	if s.topicOf != nil {
		var err error
		if name, err = s.topicOf(b, i); err != nil {
			return route{}, err
		}
		if !s.knows(name) && !legalTopic(name) {
			return route{}, s.refused(b, i, graph.UseTopic.String(), &Error{Where: "topic expression",
				Err:  fmt.Errorf("the topic name %.260q for the record of %s is not allowed", name, placeOf(b, &b.Records[i])),
				Hint: "want 1 to 249 of A-Z a-z 0-9 . _ -", class: "user"})
		}
	}
	t, err := s.topic(ctx, name)
	if err != nil {
		return route{}, err
	}
	r, n := &b.Records[i], int32(len(t.targets))
	if size := r.SizeBytes(); size > s.cfg.Produce.MaxRecordBytes {
		return route{}, s.refused(b, i, "size", &Error{Where: t.name, Err: &tooLarge{size, s.cfg.Produce.MaxRecordBytes, placeOf(b, r)},
			Hint: "raise " + propMaxRequest + " and the topic's max.message.bytes, or filter the record out", class: "user"})
	}
	if s.cfg.Legacy {
		if err := s.checkHeaders(b, i, t); err != nil {
			return route{}, err
		}
	}
	switch s.kafka.Partitioner {
	case graph.Fixed:
		return route{t, int32(s.subtask) % t.keys}, nil
	case graph.RoundRobin:
		t.turn = (t.turn + 1) % n
		return route{t, t.turn}, nil
	case graph.Preserve:
		o := &b.Origins[r.Origin]
		return route{t, o.Partition}, s.preserves(ctx, t, o.Topic, o.Partition)
	case graph.ByExpression:
		p, err := s.partitionOf(b, i)
		if err != nil {
			return route{}, err
		}
		there, err := s.has(ctx, t, p)
		if err != nil {
			return route{}, err
		}
		if !there {
			return route{}, s.refused(b, i, graph.UsePartition.String(), &Error{Where: t.name,
				Err:  fmt.Errorf("the partition expression gives %d for the record of %s, and the topic has the partitions 0 to %d", p, placeOf(b, r), len(t.targets)-1),
				Hint: "take it modulo the number of partitions", class: "user"})
		}
		return route{t, p}, nil
	}
	if r.Key.IsNull() {
		return route{t, anyPartition}, nil
	}
	return route{t, keyPartition(b.Bytes(r.Key), t.keys)}, nil
}

// askAgainAfter is how long a topic is believed not to have a partition.
const askAgainAfter = 100 * time.Millisecond

// has says whether the topic has a partition. It may have grown since it was found: it is asked for again, as the record of
// a partition that is there must not be refused.
func (s *Sink) has(ctx context.Context, t *topic, partition int32) (bool, error) {
	if partition < 0 || int(partition) < len(t.targets) {
		return partition >= 0, nil
	}
	if time.Since(t.askedAt) < askAgainAfter {
		return false, nil
	}
	found, err := s.discover(ctx, t.name)
	if err != nil {
		return false, err
	}
	t.askedAt = time.Now()
	s.grow(t, found)
	return int(partition) < len(t.targets), nil
}

// grow gives a topic the partitions that it has by now.
func (s *Sink) grow(t *topic, found *wire.Topic) {
	s.mu.Lock()
	before := len(t.targets)
	for i := before; i < len(found.Partitions); i++ {
		t.add(found.Partitions[i].ID)
	}
	s.homeless = append(s.homeless, t.targets[before:]...)
	s.mu.Unlock()
	signal(s.lost)
}

func (t *topic) add(partition int32) {
	t.targets = append(t.targets, &target{topic: t, id: partition, name: fmt.Sprintf("%s/%d", t.name, partition)})
}

// preserves checks that the topic has the partition that a record was read from.
func (s *Sink) preserves(ctx context.Context, t *topic, from string, partition int32) error {
	there, err := s.has(ctx, t, partition)
	if err != nil || there {
		return err
	}
	return &Error{Where: t.name, Err: fmt.Errorf("partitioner: preserve wants partition %d, as in %s, and the topic has %d partitions", partition, from, len(t.targets)),
		Hint: "give it as many partitions, or use another partitioner", class: "user"}
}

// knows says whether a topic was found already.
func (s *Sink) knows(name string) bool {
	return s.last != nil && s.last.name == name || s.topics[name] != nil
}

// legalTopic says whether Kafka allows the name.
func legalTopic(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return len(name) >= 1 && len(name) <= 249 && name != "." && name != ".."
}

// topic finds a topic by name, and asks for it when it is new.
func (s *Sink) topic(ctx context.Context, name string) (*topic, error) {
	if s.last != nil && s.last.name == name {
		return s.last, nil
	}
	t := s.topics[name]
	if t == nil {
		found, err := s.discover(ctx, name)
		if err != nil {
			return nil, err
		}
		t = s.newTopic(found)
		s.topics[name] = t
		s.grow(t, found)
	}
	s.last = t
	return t, nil
}

func (s *Sink) newTopic(found *wire.Topic) *topic {
	n := len(found.Partitions)
	// the first turn is the partition with the subtask's own number, so that subtasks spread
	before := int32((s.subtask + n - 1) % n)
	return &topic{name: found.Name, size: newBatchSize(s.cfg.Produce.BatchBytes), sticky: before, turn: before, keys: int32(n), askedAt: time.Now()}
}

// discover asks for a topic for as long as a batch may wait.
func (s *Sink) discover(ctx context.Context, name string) (*wire.Topic, error) {
	defer s.trouble.set(name, "")
	deadline := time.Now().Add(s.cfg.Produce.DeliveryTimeout)
	for try := 1; ; try++ {
		t, err := s.askTopic(ctx, name)
		switch {
		case err == nil:
			return t, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !survivable(err):
			return nil, &Error{Where: name, Err: err}
		case time.Now().After(deadline):
			return nil, &Error{Where: name, Err: fmt.Errorf("the topic could not be found for %s: %w", s.cfg.Produce.DeliveryTimeout, err), Hint: "create the topic, or correct its name"}
		}
		s.trouble.set(name, shortReason(err))
		select {
		case <-s.over:
			return nil, s.overError()
		default:
		}
		if err := sleep(ctx, s.cfg.pauseAfter(err, try)); err != nil {
			return nil, err
		}
	}
}

func (s *Sink) askTopic(ctx context.Context, name string) (*wire.Topic, error) {
	md, err := s.cluster.Metadata(ctx, []string{name})
	if err != nil {
		return nil, err
	}
	t, ok := md.Topic(name)
	switch {
	case ok && t.Err != nil:
		return nil, t.Err
	case !ok || len(t.Partitions) == 0:
		return nil, &wire.Error{Code: wire.CodeUnknownTopicOrPartition, API: "Metadata", Topic: name, Partition: -1}
	}
	for i := range t.Partitions {
		if t.Partitions[i].ID != int32(i) {
			return nil, &wire.Error{Code: wire.CodeLeaderNotAvailable, API: "Metadata", Topic: name, Partition: int32(i), Detail: "the answer does not name the partition"}
		}
	}
	return t, nil
}
