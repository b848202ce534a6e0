package wire

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func TestTopicIDs(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "a"), kfake.SeedTopics(1, "b"))
	cl, ctx := openCluster(t, f), testContext(t)
	first, err := cl.TopicIDs(ctx, []string{"a", "nope", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := first["nope"]; len(first) != 2 || ok || first["a"] == first["b"] || first["a"] == [16]byte{} {
		t.Fatalf("ids %v", first)
	}
	if f.TopicInfo("nope") != nil {
		t.Error("asking created the topic")
	}
	if again, err := cl.TopicIDs(ctx, []string{"a"}); err != nil || again["a"] != first["a"] {
		t.Errorf("asked again: %v, %v", again, err)
	}
	admin := kadm.NewClient(franz(t, f))
	if _, err := admin.DeleteTopics(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "a"); err != nil {
		t.Fatal(err)
	}
	if later, err := cl.TopicIDs(ctx, []string{"a", "b"}); err != nil || later["a"] == first["a"] || later["b"] != first["b"] {
		t.Errorf("after a was created again: %v, %v, before %v", later, err, first)
	}
	// The connection is good for other calls, before and after.
	if _, err := cl.Metadata(ctx, []string{"a"}); err != nil {
		t.Error(err)
	}
}

// TestTopicIDsOfEveryBroker: a broker that has old news is not asked twice in a row.
func TestTopicIDsOfEveryBroker(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "a"))
	var mu sync.Mutex
	var asked []int32
	f.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		if r.GetVersion() == topicIDVersion {
			asked = append(asked, f.CurrentNode())
		}
		return nil, nil, false
	})
	cl := openCluster(t, f)
	for range 6 {
		if _, err := cl.TopicIDs(testContext(t), []string{"a"}); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	seen := map[int32]int{}
	for i, node := range asked {
		if seen[node]++; i > 0 && asked[i-1] == node {
			t.Errorf("asked %v", asked)
		}
	}
	if len(seen) != 3 || len(asked) != 6 {
		t.Errorf("asked %v", asked)
	}
}

func TestOldBrokersTellNoTopicIDs(t *testing.T) {
	f := startFake(t, kfake.MaxVersions(kversion.V2_4_0()), kfake.SeedTopics(1, "a"))
	if ids, err := openCluster(t, f).TopicIDs(testContext(t), []string{"a"}); err != nil || len(ids) != 0 {
		t.Errorf("ids %v, %v", ids, err)
	}
}

// TestTopicIDAnswers has answers that no broker gives be refused, without a panic and without a large allocation.
func TestTopicIDAnswers(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "count beyond the end": "\x00\x00\x00\x00\x00\xff\xff\xff\x07", "endless length": "\xff\xff\xff\xff\xff\xff",
		"trailing": "\x00" + strings.Repeat("\x00", 4+1+1+4+1+4+1) + "x",
	} {
		t.Run(name, func(t *testing.T) {
			frame := append([]byte{0, 0, 0, byte(4 + len(body)), 0, 0, 0, 7}, body...)
			in, err := newReader(strings.NewReader(string(frame)), callHeader{key: protocol.Metadata, correlationID: 7, maxResponse: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			talk := &topicIDTalk{ids: map[string][16]byte{}}
			talk.read(in)
			if err := errors.Join(in.err, in.end()); err == nil {
				t.Error("it was taken")
			}
		})
	}
}
