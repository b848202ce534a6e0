package kafka

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
)

// epochEnds answers where epochs end, and notes what was asked.
type epochEnds struct {
	mu     sync.Mutex
	asked  []int32 // epochs
	answer func(n int) kmsg.OffsetForLeaderEpochResponseTopicPartition
}

// ends stands between a fake cluster and its clients; with no answer the cluster gives its own.
func ends(f *kfake.Cluster, answer func(n int) kmsg.OffsetForLeaderEpochResponseTopicPartition) *epochEnds {
	e := &epochEnds{answer: answer}
	f.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		e.mu.Lock()
		defer e.mu.Unlock()
		res := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, t := range req.(*kmsg.OffsetForLeaderEpochRequest).Topics {
			topic := kmsg.NewOffsetForLeaderEpochResponseTopic()
			topic.Topic = t.Topic
			for _, p := range t.Partitions {
				e.asked = append(e.asked, p.LeaderEpoch)
				if e.answer != nil {
					part := e.answer(len(e.asked))
					part.Partition = p.Partition
					topic.Partitions = append(topic.Partitions, part)
				}
			}
			res.Topics = append(res.Topics, topic)
		}
		return res, nil, e.answer != nil
	})
	return e
}

func (e *epochEnds) epochs() []int32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.asked)
}

func epochEnd(epoch int32, offset int64) kmsg.OffsetForLeaderEpochResponseTopicPartition {
	p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
	p.LeaderEpoch, p.EndOffset = epoch, offset
	return p
}

// positionIn is a position of which the epoch is known.
func positionIn(epoch int32, next int64) manifest.Position {
	p := position("in", 0, next, -1)
	p.LeaderEpoch = epoch
	return p
}

// epochOf is the leader epoch of in/0.
func epochOf(f *kfake.Cluster) int32 { return f.PartitionInfo("in", 0).Epoch }

// TestSourceTruncated: the log of the leader is longer than the position, but others stand where records were read.
func TestSourceTruncated(t *testing.T) {
	t.Parallel()
	t.Run("at the start", func(t *testing.T) {
		f := startFake(t, kfake.SeedTopics(1, "in"))
		produce(t, franz(t, f), numbered("in", 0, 30)...)
		epoch := epochOf(f)
		ends(f, func(int) kmsg.OffsetForLeaderEpochResponseTopicPartition { return epochEnd(epoch, 10) })
		r := startSource(t, properties(f), positionIn(epoch, 20))
		failsSaying(t, r, "in/0: the position 20 ", "which is 10 (epoch ", "the log was truncated", "the 10 offsets read from 10 on are gone", "startup: {offsets")
		if len(r.records) != 0 {
			t.Errorf("%d records were read of it", len(r.records))
		}
	})
	t.Run("an older epoch is the last one", func(t *testing.T) {
		f := startFake(t, kfake.SeedTopics(1, "in"), kfake.NumBrokers(2))
		produce(t, franz(t, f), numbered("in", 0, 30)...)
		epoch := epochOf(f)
		ends(f, func(int) kmsg.OffsetForLeaderEpochResponseTopicPartition { return epochEnd(epoch-1, 19) })
		failsSaying(t, startSource(t, properties(f), positionIn(epoch, 20)), "the position 20 ", "the log was truncated")
	})
	t.Run("while it is read", func(t *testing.T) {
		f := startFake(t, kfake.SeedTopics(1, "in"), kfake.NumBrokers(2))
		cl := franz(t, f)
		produce(t, cl, numbered("in", 0, 20)...)
		before := epochOf(f)
		asked := ends(f, func(n int) kmsg.OffsetForLeaderEpochResponseTopicPartition { return epochEnd(before, 10) })
		r := startSource(t, properties(f, propRetryBackoff, "10"), position("in", 0, 0, -1))
		r.until("in", 0, 20)
		if got := asked.epochs(); len(got) != 0 {
			t.Errorf("asked about %d before anything was known", got)
		}
		if err := f.MoveTopicPartition("in", 0, 1-f.LeaderFor("in", 0)); err != nil {
			t.Fatal(err)
		}
		produce(t, cl, numbered("in", 0, 30)...)
		failsSaying(t, r, "the position 20 ", "the log was truncated")
		if got := asked.epochs(); !slices.Equal(got, []int32{before}) || len(r.records) != 20 {
			t.Errorf("asked about epochs %d, want %d; %d records", got, before, len(r.records))
		}
	})
}

// failsSaying waits for a source to fail, with all these words.
func failsSaying(t *testing.T, r *reading, words ...string) {
	t.Helper()
	err := r.failure()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v, want one with %q", err, w)
		}
	}
}

// TestSourceNotTruncated: nothing is lost, so nothing is refused; and each leader is asked once, not each fetch.
func TestSourceNotTruncated(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"), kfake.NumBrokers(2))
	cl := franz(t, f)
	produce(t, cl, numbered("in", 0, 20)...)
	first := epochOf(f)
	asked := ends(f, nil)
	r := startSource(t, properties(f, propRetryBackoff, "10"), positionIn(first, 10))
	for round := range int64(3) {
		r.until("in", 0, 20+10*round)
		produce(t, cl, numbered("in", 0, 10)...)
		r.until("in", 0, 30+10*round)
		if err := f.MoveTopicPartition("in", 0, 1-f.LeaderFor("in", 0)); err != nil {
			t.Fatal(err)
		}
		produce(t, cl, numbered("in", 0, 10)...)
	}
	r.until("in", 0, 80)
	got := asked.epochs()
	if len(got) < 2 || len(got) > 8 || got[0] != first || !slices.IsSorted(got) || len(r.records) != 70 {
		t.Errorf("asked about epochs %d from %d on; %d records, want 70", got, first, len(r.records))
	}
}

// TestSourceComparesAgain: nothing is read before the leader has answered.
func TestSourceComparesAgain(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	produce(t, franz(t, f), numbered("in", 0, 20)...)
	epoch := epochOf(f)
	codes := []int16{kerr.FencedLeaderEpoch.Code, kerr.UnknownLeaderEpoch.Code, kerr.NotLeaderForPartition.Code, kerr.UnknownServerError.Code}
	asked := ends(f, func(n int) kmsg.OffsetForLeaderEpochResponseTopicPartition {
		p := epochEnd(epoch, 20)
		if n <= len(codes) {
			p = epochEnd(-1, -1)
			p.ErrorCode = codes[n-1]
		}
		return p
	})
	r := startSource(t, properties(f, propRetryBackoff, "5"), positionIn(epoch, 10))
	r.until("in", 0, 20)
	if got := len(asked.epochs()); got != len(codes)+1 || len(r.records) != 10 {
		t.Errorf("asked %d times, want %d; %d records", got, len(codes)+1, len(r.records))
	}
	for _, code := range codes {
		if heard, _ := r.reasons.heard(kerr.ErrorForCode(code).(*kerr.Error).Message); !heard && code != kerr.NotLeaderForPartition.Code {
			t.Errorf("reasons %q lack code %d", r.reasons.said, code)
		}
	}
}

// TestSourceOldLeader: a leader of an epoch before that of the position is one of the past, or of another topic.
func TestSourceOldLeader(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"))
	produce(t, franz(t, f), numbered("in", 0, 20)...)
	src, err := NewSource(SourceConfig{Kafka: kafkaSource(properties(f, propRetryBackoff, "5")), Connections: newConnections(t), Positions: []positionOf{positionIn(epochOf(f)+3, 10)}})
	if err != nil {
		t.Fatal(err)
	}
	src.staleGrace = 50 * time.Millisecond
	if err := src.Run(testContext(t)); err == nil || !strings.HasPrefix(err.Error(), "in/0: the epoch of the leader is ") {
		t.Errorf("error %v", err)
	}
	if len(src.Batches()) != 0 {
		t.Error("it was read")
	}
}

// TestSourceOldLeaderIsReplaced: who the leader is is asked again, as the one of the past may go on taking itself for it.
func TestSourceOldLeaderIsReplaced(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in"), kfake.NumBrokers(2))
	produce(t, franz(t, f), numbered("in", 0, 20)...)
	epoch := epochOf(f)
	asked := ends(f, func(int) kmsg.OffsetForLeaderEpochResponseTopicPartition { return epochEnd(-1, -1) })
	r := startSource(t, properties(f, propRetryBackoff, "5"), positionIn(epoch+1, 10))
	eventually(t, "the old leader is asked", func() bool { return len(asked.epochs()) > 0 })
	if err := f.MoveTopicPartition("in", 0, 1-f.LeaderFor("in", 0)); err != nil {
		t.Fatal(err)
	}
	r.until("in", 0, 20)
}

// TestSourceOldBrokersAreNotAsked: before Kafka 2.3 only administrators may ask.
func TestSourceOldBrokersAreNotAsked(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.MaxVersions(kversion.V2_2_0()), kfake.SeedTopics(1, "in"))
	produce(t, franz(t, f), numbered("in", 0, 20)...)
	asked := ends(f, func(int) kmsg.OffsetForLeaderEpochResponseTopicPartition { return epochEnd(0, 1) })
	r := startSource(t, properties(f), positionIn(epochOf(f)+3, 10))
	r.until("in", 0, 20)
	if got := asked.epochs(); len(got) != 0 {
		t.Errorf("asked about %d", got)
	}
}
