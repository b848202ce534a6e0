package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestEpochEnds asks about two topics in one request, and about partitions that have an error of their own.
func TestEpochEnds(t *testing.T) {
	f := startFake(t, kfake.SeedTopics(3, "a"), kfake.SeedTopics(1, "b"))
	cl, ctx := openCluster(t, f), testContext(t)
	if err := franz(t, f).ProduceSync(ctx, &kgo.Record{Topic: "a", Partition: 1, Value: []byte("x")}, &kgo.Record{Topic: "b", Value: []byte("y")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	leader, err := cl.Leader(ctx, "a", 1)
	if err != nil {
		t.Fatal(err)
	}
	var asked []EpochQuery
	f.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		r := req.(*kmsg.OffsetForLeaderEpochRequest)
		if r.Version != epochEndVersion || r.ReplicaID != -1 {
			t.Errorf("request v%d of replica %d", r.Version, r.ReplicaID)
		}
		for _, topic := range r.Topics {
			for _, p := range topic.Partitions {
				asked = append(asked, EpochQuery{topic.Topic, p.Partition, p.LeaderEpoch, p.CurrentLeaderEpoch})
			}
		}
		return nil, nil, false
	})
	queries := []EpochQuery{{"b", 0, leader.Epoch, leader.Epoch}, {"a", 1, leader.Epoch, leader.Epoch}, {"a", 7, 0, -1}, {"a", 0, 0, leader.Epoch + 1}}
	ends, err := cl.EpochEnds(ctx, leader.Broker, queries)
	if err != nil || len(ends) != len(queries) {
		t.Fatalf("%v, %v", ends, err)
	}
	for i := range 2 {
		if want := (EpochEnd{leader.Epoch, 1, nil}); ends[i] != want {
			t.Errorf("%v: %v, want %v", queries[i], ends[i], want)
		}
	}
	if !HasCode(ends[2].Err, CodeUnknownTopicOrPartition) || !HasCode(ends[3].Err, CodeUnknownLeaderEpoch) {
		t.Errorf("errors %v and %v", ends[2].Err, ends[3].Err)
	}
	if want := []EpochQuery{queries[0], queries[1], queries[2], queries[3]}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	if _, err := cl.Metadata(ctx, []string{"a"}); err != nil {
		t.Errorf("the connection is no longer good: %v", err)
	}
}

func TestOldBrokersTellNoEpochEnds(t *testing.T) {
	f := startFake(t, kfake.MaxVersions(kversion.V2_2_0()), kfake.SeedTopics(1, "a"))
	f.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(kmsg.Request) (kmsg.Response, error, bool) {
		t.Error("it was asked")
		return nil, kerr.UnsupportedVersion, true
	})
	cl := openCluster(t, f)
	if _, err := cl.EpochEnds(testContext(t), leaderOf(t, cl, "a", 0), []EpochQuery{{"a", 0, 0, 0}}); !HasCode(err, CodeUnsupportedVersion) {
		t.Errorf("error %v", err)
	}
}

// TestEpochEndAnswers has answers that no broker gives be refused or reported, without a panic and without a large
// allocation.
func TestEpochEndAnswers(t *testing.T) {
	const partition = "\x00\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x05" + "\x00\x00\x00\x00\x00\x00\x00\x63"
	const none = "\x00\x00\x00\x00"
	tests := []struct{ name, body, want string }{
		{"whole", none + "\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x01" + partition, ""},
		{"empty", "", "EOF"},
		{"nobody", none + none, "does not mention it"},
		{"another topic", none + "\x00\x00\x00\x01\x00\x01b\x00\x00\x00\x01" + partition, "does not mention it"},
		{"topics beyond the end", none + "\x7f\xff\xff\xff", "an array of"},
		{"partitions beyond the end", none + "\x00\x00\x00\x01\x00\x01a\x7f\xff\xff\xff", "an array of"},
		{"cut", none + "\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x01" + partition[:10], "an array of"},
		{"trailing", none + none + "x", "not understood"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			frame := append([]byte{0, 0, 0, byte(4 + len(test.body)), 0, 0, 0, 7}, test.body...)
			in, err := newReader(strings.NewReader(string(frame)), callHeader{key: protocol.OffsetForLeaderEpoch, correlationID: 7, maxResponse: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			talk := &epochEndTalk{queries: []EpochQuery{{"a", 0, 5, 6}}, order: []topicGroup{{"a", []int{0}}}}
			talk.read(in)
			err = errors.Join(in.end(), talk.out[0].Err)
			switch {
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want one with %q", err, test.want)
			case test.want == "" && (err != nil || talk.out[0] != EpochEnd{5, 99, nil}):
				t.Errorf("%v, %v", talk.out, err)
			}
		})
	}
}
