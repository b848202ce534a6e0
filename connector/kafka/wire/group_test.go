package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestGroupProtocol compares what members tell each other with another client's reading of it.
func TestGroupProtocol(t *testing.T) {
	var meta kmsg.ConsumerMemberMetadata
	if err := meta.ReadFrom(encodeSubscription([]string{"a", "b"})); err != nil || cmp.Diff([]string{"a", "b"}, meta.Topics) != "" {
		t.Errorf("%+v, %v", meta, err)
	}
	parts := []TopicPartition{{"a", 1}, {"a", 2}, {"b", 0}}
	var assigned kmsg.ConsumerMemberAssignment
	if err := assigned.ReadFrom(encodeAssignment(parts)); err != nil || len(assigned.Topics) != 2 || cmp.Diff([]int32{1, 2}, assigned.Topics[0].Partitions) != "" {
		t.Errorf("%+v, %v", assigned, err)
	}
	if got, err := decodeAssignment(assigned.AppendTo(nil)); err != nil || cmp.Diff(parts, got) != "" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := decodeAssignment(nil); err != nil || got != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
	// a consumer of today: what it holds, its generation and its rack stand behind the topics
	rack := "r"
	newer := kmsg.ConsumerMemberMetadata{Version: 3, Topics: []string{"x"}, UserData: []byte("u"), Generation: 7, Rack: &rack,
		OwnedPartitions: []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "x", Partitions: []int32{1}}}}
	if got, err := decodeSubscription(newer.AppendTo(nil)); err != nil || cmp.Diff([]string{"x"}, got) != "" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestGroupProtocolHostile: another member of the group may write anything.
func TestGroupProtocolHostile(t *testing.T) {
	whole := encodeAssignment([]TopicPartition{{"topic", 1}, {"other", 2}})
	for i := 1; i < len(whole)-4; i++ { // the user data at the end is not read
		if got, err := decodeAssignment(whole[:i]); !errors.Is(err, errGroupBytes) {
			t.Errorf("%d bytes: %v, %v", i, got, err)
		}
	}
	huge := []byte{0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, 'x'}
	for _, b := range [][]byte{huge, {0, 0, 0xff, 0xff, 0xff, 0xff}, {0}} {
		if _, err := decodeSubscription(b); !errors.Is(err, errGroupBytes) {
			t.Errorf("subscription %x: %v", b, err)
		}
		if _, err := decodeAssignment(b); !errors.Is(err, errGroupBytes) {
			t.Errorf("assignment %x: %v", b, err)
		}
	}
	if _, err := decodeAssignment(encodeAssignment([]TopicPartition{{"t", -1}})); !errors.Is(err, errGroupBytes) {
		t.Errorf("a negative partition: %v", err)
	}
}

// TestGroupCalls walks one member through a generation, and reads every answer that steers it.
func TestGroupCalls(t *testing.T) {
	f := startFake(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "t"))
	cl, ctx := openCluster(t, f), testContext(t)
	join := GroupJoin{Member: Member{Group: "g", Generation: -1}, SessionTimeout: 6_000_000_000, RebalanceTimeout: 10_000_000_000, Strategies: []string{"range"}, Topics: []string{"t"}}
	first, err := cl.JoinGroup(ctx, &join)
	if HasCode(err, CodeMemberIDRequired) {
		join.Member.ID = first.Member.ID
		first, err = cl.JoinGroup(ctx, &join)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := first.Member
	if first.Strategy != "range" || cmp.Diff(map[string][]string{m.ID: {"t"}}, first.Subscriptions) != "" {
		t.Errorf("%+v", first)
	}
	all := []TopicPartition{{"t", 0}, {"t", 1}}
	if got, err := cl.SyncGroup(ctx, m, map[string][]TopicPartition{m.ID: all}); err != nil || fmt.Sprint(got) != fmt.Sprint(all) {
		t.Errorf("%v, %v", got, err)
	}
	if err := cl.Heartbeat(ctx, m); err != nil {
		t.Error(err)
	}
	if err := cl.OffsetCommitAs(ctx, m, []CommittedOffset{{Topic: "t", Partition: 1, Offset: 5, LeaderEpoch: -1}}); err != nil {
		t.Error(err)
	}
	stranger := Member{Group: "g", ID: "nobody", Generation: m.Generation}
	old := Member{Group: "g", ID: m.ID, Generation: m.Generation - 1}
	for name, err := range map[string]error{
		"heartbeat of nobody": cl.Heartbeat(ctx, stranger), "leave of nobody": cl.LeaveGroup(ctx, stranger),
		"commit of nobody": cl.OffsetCommitAs(ctx, stranger, []CommittedOffset{{Topic: "t", Offset: 1}}),
	} {
		if !HasCode(err, CodeUnknownMemberID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := cl.Heartbeat(ctx, old); !HasCode(err, CodeIllegalGeneration) {
		t.Errorf("heartbeat of an old generation: %v", err)
	}
	if err := cl.LeaveGroup(ctx, m); err != nil {
		t.Error(err)
	}
	if err := cl.Heartbeat(ctx, m); !HasCode(err, CodeUnknownMemberID) {
		t.Errorf("heartbeat after the leave: %v", err)
	}
	if got, err := cl.OffsetFetch(ctx, "g", all); err != nil || got[1].Offset != 5 || got[0].Offset != -1 {
		t.Errorf("%+v, %v", got, err)
	}
}
