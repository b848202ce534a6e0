package wire

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestUnknownEpochs: brokers before 2.1 tell no leader epochs, and 0 is one.
func TestUnknownEpochs(t *testing.T) {
	for _, test := range []struct {
		name    string
		options []kfake.Opt
		known   bool
	}{
		{"2.0", []kfake.Opt{kfake.MaxVersions(kversion.V2_0_0())}, false},
		{"2.1", []kfake.Opt{kfake.MaxVersions(kversion.V2_1_0())}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := startFake(t, append(test.options, kfake.SeedTopics(1, "in"))...)
			c, ctx := openCluster(t, f), testContext(t)
			leader, err := c.Leader(ctx, "in", 0)
			if err != nil {
				t.Fatal(err)
			}
			parts := []TopicPartition{{"in", 0}}
			if err := c.OffsetCommit(ctx, "g", []CommittedOffset{{Topic: "in", Offset: 0, LeaderEpoch: 0}}); err != nil {
				t.Fatal(err)
			}
			committed, err := c.OffsetFetch(ctx, "g", parts)
			if err != nil || committed[0].Err != nil || committed[0].Offset != 0 {
				t.Fatalf("%+v, %v", committed, err)
			}
			listed, err := c.ListOffsets(ctx, []OffsetQuery{{Topic: "in", Timestamp: -2}}, ReadCommitted)
			if err != nil || listed[0].Err != nil || listed[0].Offset != 0 {
				t.Fatalf("%+v, %v", listed, err)
			}
			for what, epoch := range map[string]int32{"Metadata": leader.Epoch, "OffsetFetch": committed[0].LeaderEpoch, "ListOffsets": listed[0].LeaderEpoch} {
				if (epoch >= 0) != test.known || epoch < -1 {
					t.Errorf("%s: leader epoch %d, it is told: %v", what, epoch, test.known)
				}
			}
		})
	}
}
