package sim

import "time"

// callTimeout is the longest that a client waits for an answer of Kafka.
const callTimeout = 5 * time.Second

// lateBy is how much later than that a request may still be carried out.
const lateBy = 30 * time.Second

// call is one request to Kafka.
type call struct {
	// once: nothing on the way repeats it (InitProducerId).
	once bool
	// from says which side cannot reach Kafka at times.
	from *outage
	// carryOut is what the broker does; it may happen late, twice or never, and with nobody waiting for it.
	carryOut func() code
	// answer brings what the client learns; it checks that the client still lives.
	answer func(code)
}

// outage is a time in which one side does not reach Kafka.
type outage struct{ until time.Duration }

// send lets a call happen.
func (w *world) send(c call) {
	lose := w.now < c.from.until && !w.healed
	switch {
	case lose && w.rng.IntN(2) == 0, w.chance(w.odds.unsent):
		w.after(w.trip(), func() { c.answer(unsent) })
	case lose, w.chance(w.odds.lostRequest):
		w.after(w.giveUp(), func() { c.answer(unknown) })
	case w.chance(w.odds.lateRequest):
		w.after(w.giveUp(), func() { c.answer(unknown) })
		w.after(w.between(0, lateBy), func() { c.carryOut() })
	case w.chance(w.odds.lostAnswer):
		w.after(w.trip(), func() { c.carryOut() })
		w.after(w.giveUp(), func() { c.answer(unknown) })
	case w.chance(w.odds.busyBroker):
		w.after(w.trip(), func() { c.answer(coordinatorLoading) })
	default:
		w.after(w.trip(), func() {
			got := c.carryOut()
			w.after(w.trip(), func() { c.answer(got) })
		})
		if !c.once && w.chance(w.odds.repeatRequest) {
			w.after(w.between(0, lateBy), func() { c.carryOut() })
		}
	}
}

// trip is how long a request or an answer is on its way.
func (w *world) trip() time.Duration {
	if w.chance(w.odds.slowKafka) {
		return w.between(0, 2*time.Second)
	}
	return w.between(100*time.Microsecond, 4*time.Millisecond)
}

// giveUp is when a client learns that there will be no answer: the connection broke, or the deadline passed.
func (w *world) giveUp() time.Duration {
	if w.rng.IntN(2) == 0 {
		return callTimeout
	}
	return w.between(time.Millisecond, 200*time.Millisecond)
}
