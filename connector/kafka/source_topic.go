package kafka

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
)

// lookUp asks for the leaders and, where a split knows the id of its topic, for the ids of topics. The ids come
// last: what was created again in between is seen as another topic.
func (s *Source) lookUp(ctx context.Context, splits []*split) (md *wire.Metadata, ids map[string][16]byte, err error) {
	if md, err = s.cluster.Metadata(ctx, topicsOf(splits)); err != nil {
		return nil, nil, err
	}
	known := slices.DeleteFunc(slices.Clone(splits), func(sp *split) bool { return sp.TopicID == manifest.TopicID{} })
	ids, err = s.cluster.TopicIDs(ctx, topicsOf(known))
	return md, ids, err
}

// anotherTopicError says that a topic is another one than that which a position is of.
type anotherTopicError struct {
	was, is manifest.TopicID
	// final: it has been so for long enough to be believed.
	final bool
}

// Error names both topics.
func (e *anotherTopicError) Error() string {
	return fmt.Sprintf("the topic was deleted and created again: its id was %s and is %s, and the position is of the old one; "+
		"to read the new topic from its beginning, cancel the job and submit it anew with startup: earliest", e.was, e.is)
}

// checkTopic refuses to read another topic of the same name. For a while that may be a broker that does not know
// the newest of it; nothing is read meanwhile. It is final after that.
func (s *Source) checkTopic(sp *split, is manifest.TopicID) error {
	if sp.TopicID == (manifest.TopicID{}) || is == (manifest.TopicID{}) || is == sp.TopicID {
		sp.strangeSince = time.Time{}
		return nil
	}
	now := time.Now()
	if sp.strangeSince.IsZero() {
		sp.strangeSince = now
	}
	return &anotherTopicError{sp.TopicID, is, now.Sub(sp.strangeSince) > s.staleGrace}
}

// shrunk says that the log of a split ends before where the same broker has told before: it may be that of another
// topic by now, so the split has to be looked up again.
func (sp *split) shrunk(p *wire.FetchedPartition) bool {
	if p.HighWatermark < 0 {
		return false
	}
	was := sp.end
	sp.end = p.HighWatermark
	return p.HighWatermark < was
}
