package kafka

import "time"

const (
	// firstRaise is how long batches stay small after the topic refused one as too large; while larger ones are refused
	// again it doubles, up to lastRaise. Then they double in size every raiseStep.
	firstRaise = 2 * time.Second
	lastRaise  = 10 * time.Minute
	raiseStep  = time.Second
)

// batchSize is where the batches of a topic are closed, in bytes. It shrinks when the topic refuses a batch as too
// large, as its max.message.bytes may be below batch.size, and grows again little by little: one that was low for a
// minute would leave batches of a few records, which a broker takes as slowly as large ones.
type batchSize struct {
	bytes, configured int
	raiseAt           time.Time
	pause             time.Duration // of the last refusal
	raised            bool          // since then
}

func newBatchSize(configured int) batchSize {
	return batchSize{bytes: configured, configured: configured}
}

// refused takes note that a batch was too large, and that the larger part of it has so many bytes.
func (s *batchSize) refused(part int, now time.Time) {
	if s.pause == 0 || now.Sub(s.raiseAt) > lastRaise { // it is long since the last refusal
		s.pause = firstRaise
	} else if s.raised {
		s.pause = min(2*s.pause, lastRaise)
	}
	s.bytes, s.raiseAt, s.raised = min(s.bytes, part), now.Add(s.pause), false
}

// small says whether batches are closed below what is configured.
func (s *batchSize) small() bool { return s.bytes < s.configured }

// taken takes note that the topic took a batch.
func (s *batchSize) taken(now time.Time) {
	if !s.small() || now.Before(s.raiseAt) {
		return
	}
	s.bytes, s.raiseAt, s.raised = min(2*s.bytes, s.configured), now.Add(raiseStep), true
}
