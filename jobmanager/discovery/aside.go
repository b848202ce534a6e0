package discovery

import (
	"maps"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

const (
	// asideAfter is how long a topic has to be missing, and asideListings in how many listings in a row, until its splits are
	// set aside. A broker that has just started, or that is cut off, may not know of a topic that exists; being wrong costs
	// only that it is not read until it is listed again.
	asideAfter    = time.Hour
	asideListings = 10
)

// absence is since when, and in how many listings, a topic is missing.
type absence struct {
	since    time.Time
	listings int
}

// note counts the topics that the newest listing misses; those that it has begin anew.
func (s *source) note(now time.Time) {
	old := s.absent
	s.absent = map[string]absence{}
	for _, topic := range s.missing {
		a, ok := old[topic]
		if !ok {
			a.since = now
		}
		a.listings++
		s.absent[topic] = a
	}
}

// longGone are the splits to be set aside: all of a topic, and only if every one knows its topic's id, by which another
// topic of that name would be told from it.
func (s *source) longGone(now time.Time) []manifest.Position {
	if !s.Pattern || s.Interval == 0 { // nobody would look whether one is back
		return nil
	}
	gone := map[string]bool{}
	for topic, a := range s.absent {
		gone[topic] = a.listings >= asideListings && now.Sub(a.since) >= asideAfter
	}
	all := s.all()
	for _, p := range all {
		if p.TopicID == (manifest.TopicID{}) {
			gone[p.Topic] = false
		}
	}
	return slices.DeleteFunc(all, func(p manifest.Position) bool { return !gone[p.Topic] })
}

// outlook says what becomes of topics that are missing.
func (s *source) outlook() string {
	unknown := func(topic string) bool { return s.ids[topic] == manifest.TopicID{} }
	if !s.Pattern || s.Interval == 0 || slices.ContainsFunc(s.missing, unknown) {
		return ""
	}
	return "; where one was read up to is set aside after an hour"
}

func (m *Machine) onAsideSet(now time.Time, ev AsideSet) {
	s := m.answered(ev, ev.Fence, ev.Source)
	if s == nil {
		return
	}
	if ev.Err != nil {
		m.next(now, s, ev.Err)
		return
	}
	aside := map[manifest.Split]manifest.Position{}
	for _, p := range ev.Positions {
		aside[p.Split] = p
	}
	for _, from := range slices.SortedFunc(maps.Keys(s.splits), ident.Subtask.Compare) {
		if taken := s.take(from, aside); len(taken) > 0 {
			m.aside += uint64(len(taken))
			m.emit(Remove{Fence: m.fence, Subtask: from, Positions: taken})
		}
	}
	left := map[string]bool{}
	for split := range s.known {
		left[split.Topic] = true
	}
	maps.DeleteFunc(s.ids, func(topic string, _ manifest.TopicID) bool { return !left[topic] })
	s.missing = slices.DeleteFunc(s.missing, func(topic string) bool { return !left[topic] })
}

// take forgets those of the splits that a subtask reads, and gives their positions.
func (s *source) take(from ident.Subtask, which map[manifest.Split]manifest.Position) []manifest.Position {
	var taken, kept []manifest.Position
	for _, p := range s.splits[from] {
		at, ok := which[p.Split]
		if !ok {
			kept = append(kept, p)
			continue
		}
		taken = append(taken, at)
		delete(s.known, p.Split)
		s.removed[p.Split] = from
	}
	s.splits[from] = kept
	return taken
}
