package sim

import "time"

// stream is one connection between a task manager and the job manager. Messages keep their order while it
// is open. When it breaks, what is on its way downwards is lost; what is on its way upwards may be lost, or
// be handled late, after messages of the next stream.
type stream struct {
	w      *world
	tm     *taskManager
	jm     *jobManager
	isOpen bool
	// cut: nothing arrives any more in either direction, but neither side knows.
	cut      bool
	up, down time.Duration // when the last message arrives
}

// send lets f happen on the other side; last is the direction.
func (s *stream) send(last *time.Duration, f func()) {
	at := max(*last, s.w.now+s.w.delay())
	*last = at
	s.w.after(at-s.w.now, f)
}

// toJM hands a message to the job manager that the stream leads to.
func (s *stream) toJM(f func(jm *jobManager)) {
	if s == nil || !s.isOpen || s.cut {
		return
	}
	arrive := func() {
		if s.jm.dead || s.cut {
			return
		}
		if !s.isOpen && s.w.chance(s.w.odds.loseLate) {
			return
		}
		f(s.jm)
	}
	s.send(&s.up, arrive)
	if s.w.chance(s.w.odds.repeatUp) {
		s.w.after(s.up-s.w.now+s.w.delay(), arrive)
	}
}

// levelToJM hands over a level: the newest one counts, so none is repeated, and none of an older stream comes
// after one of a newer.
func (s *stream) levelToJM(f func(jm *jobManager)) {
	if s == nil || !s.isOpen || s.cut {
		return
	}
	s.send(&s.up, func() {
		if !s.jm.dead && s.isOpen && !s.cut {
			f(s.jm)
		}
	})
}

// toTM hands a message to the task manager.
func (s *stream) toTM(f func(tm *taskManager)) {
	if s == nil || !s.isOpen {
		return
	}
	s.send(&s.down, func() {
		if s.isOpen && !s.cut {
			s.tm.when(s.tm.incarnation, func() { f(s.tm) })
		}
	})
}

// breakNow ends the stream for both sides.
func (s *stream) breakNow(why string) {
	if s == nil || !s.isOpen {
		return
	}
	s.isOpen = false
	s.w.logf("stream of %s broke: %s", s.tm.id, why)
	s.jm.onBroken(s)
	s.tm.onBroken(s)
}

// cutNow drops everything from now on; both sides notice after the heartbeat timeout.
func (s *stream) cutNow() {
	if s == nil || !s.isOpen || s.cut {
		return
	}
	s.w.logf("stream of %s is cut", s.tm.id)
	s.cut = true
	s.tm.lastContact = s.w.now
	s.w.after(heartbeatTimeout, func() {
		if s.isOpen {
			s.isOpen = false
			s.jm.onSilent(s)
			s.tm.onBroken(s)
		}
	})
}
