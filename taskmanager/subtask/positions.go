package subtask

import (
	"fmt"
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// positions are where the splits of a source stand. They move only when the chain has taken a batch.
type positions struct {
	all     []manifest.Position
	index   map[manifest.Split]int
	bounded bool
	open    int // splits with data left to read
}

func newPositions(cfg *Config) *positions {
	p := &positions{index: map[manifest.Split]int{}, bounded: bounded(&cfg.Vertex)}
	p.add(cfg.Positions)
	return p
}

// add takes splits that it does not have.
func (p *positions) add(list []manifest.Position) {
	for _, at := range list {
		p.index[at.Split] = len(p.all)
		p.all = append(p.all, at)
		if !at.AtEnd() {
			p.open++
		}
	}
}

// remove forgets splits that it has.
func (p *positions) remove(gone map[manifest.Split]bool) {
	p.all = slices.DeleteFunc(p.all, func(at manifest.Position) bool {
		if gone[at.Split] && !at.AtEnd() {
			p.open--
		}
		return gone[at.Split]
	})
	clear(p.index)
	for i := range p.all {
		p.index[p.all[i].Split] = i
	}
}

// ofAnotherTopic gives where it stands in a topic that had the name of this one before.
func (p *positions) ofAnotherTopic(at manifest.Position) (old manifest.Position, ok bool) {
	i, have := p.index[at.Split]
	if !have || p.all[i].TopicID == at.TopicID || p.all[i].TopicID == (manifest.TopicID{}) || at.TopicID == (manifest.TopicID{}) {
		return old, false
	}
	return p.all[i], true
}

// standsAt says that a split of this topic, not of one that had its name before, is read up to this offset.
func (p *positions) standsAt(at manifest.Position) bool {
	i, have := p.index[at.Split]
	return have && p.all[i].TopicID == at.TopicID && p.all[i].Next == at.Next
}

// missing leaves out the splits that are there.
func (p *positions) missing(list []manifest.Position) []manifest.Position {
	var out []manifest.Position
	for _, at := range list {
		if _, have := p.index[at.Split]; !have {
			out = append(out, at)
		}
	}
	return out
}

// bounded says whether the source can end: at its bound, or where its until holds.
func bounded(v *graph.Vertex) bool {
	s := v.Nodes[0].Source
	if s == nil || s.Kafka == nil {
		return false
	}
	return s.Kafka.Until != "" || s.Kafka.Bounded.Mode != "" && s.Kafka.Bounded.Mode != graph.BoundNone
}

// atEnd says that a bounded source has nothing left to read. One without splits is there at once.
func (p *positions) atEnd() bool { return p.bounded && p.open == 0 }

// ended says that nothing more is taken of a split.
func (p *positions) ended(split manifest.Split) bool {
	i, ok := p.index[split]
	return ok && p.all[i].AtEnd()
}

// stop makes an offset the end of a split. It is part of the checkpoint: what has ended stays so, also if the
// record at its end is deleted.
func (p *positions) stop(split manifest.Split, at int64) {
	i, ok := p.index[split]
	if !ok || p.all[i].AtEnd() {
		return
	}
	p.all[i].Stop = at
	if p.all[i].AtEnd() { // it stands there already
		p.open--
	}
}

func (p *positions) advance(sb *operator.SourceBatch) error {
	i, ok := p.index[sb.Split]
	if !ok {
		return fmt.Errorf("the source delivered %s/%d, which is not among its %d splits", sb.Split.Topic, sb.Split.Partition, len(p.all))
	}
	at := &p.all[i]
	if sb.Next < at.Next {
		return fmt.Errorf("the source went back on %s/%d from offset %d to %d", sb.Split.Topic, sb.Split.Partition, at.Next, sb.Next)
	}
	was := at.AtEnd()
	at.Next = sb.Next
	if sb.LeaderEpoch >= 0 {
		at.LeaderEpoch = sb.LeaderEpoch
	}
	if !was && at.AtEnd() {
		p.open--
	}
	return nil
}
