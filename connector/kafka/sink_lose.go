package kafka

import (
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// lossLogEvery bounds how often the log tells of records that could not be written.
const lossLogEvery = 10 * time.Second

// losses are the records that a sink with the guarantee none could not write. Under Sink.mu.
type losses struct {
	untold int64
	told   time.Time
}

// giveUp ends the tries for what a partition has to send. With the guarantee none it is counted, told in the
// log, and the job goes on; else the error fails the sink. Under mu.
func (s *Sink) giveUp(t *target, cause error) error {
	if s.kafka.Guarantee != graph.NoGuarantee {
		return cause
	}
	if len(t.queue) == 0 {
		s.closeOpen(t)
	}
	now := time.Now()
	for len(t.queue) > 0 {
		b := t.queue[0]
		s.losses.untold += int64(b.count)
		if s.lostRecords != nil {
			s.lostRecords.Add(int64(b.count))
		}
		t.pop()
		if s.epochs.leave(b.epoch) {
			signal(s.seals)
		}
		s.memory.release(b)
		if len(t.queue) == 0 || now.Sub(t.queue[0].opened) <= s.cfg.Produce.DeliveryTimeout {
			break
		}
	}
	if now.Sub(s.losses.told) >= lossLogEvery && s.losses.untold > 0 {
		s.log.Warn("records could not be written, and with guarantee none the job goes on without them", "topic", t.topic.name, "partition", t.id, "records", s.losses.untold, "reason", cause)
		s.losses = losses{told: now}
	}
	return nil
}

// forgive lets checkpoints go on without the answers that they wait for. Under mu.
func (s *Sink) forgive() {
	if s.kafka.Guarantee == graph.NoGuarantee {
		s.epochs.forgive()
		signal(s.seals)
	}
}

// troubled says whether a partition waits for its next try. Under mu.
func (s *Sink) troubled() bool {
	for _, t := range s.topics {
		for _, p := range t.targets {
			if p.tries > 0 {
				return true
			}
		}
	}
	return false
}

// pop takes the head off the queue.
func (t *target) pop() {
	copy(t.queue, t.queue[1:])
	t.queue[len(t.queue)-1] = nil
	t.queue = t.queue[:len(t.queue)-1]
}
