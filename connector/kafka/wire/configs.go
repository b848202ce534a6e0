package wire

import (
	"context"
	"net"

	"github.com/segmentio/kafka-go/protocol/describeconfigs"
)

const resourceTopic int8 = 2

// TopicConfig reads settings of a topic by name, such as max.message.bytes; names that the broker
// does not know are absent.
func (c *Cluster) TopicConfig(ctx context.Context, topic string, names ...string) (map[string]string, error) {
	out := map[string]string{}
	err := c.anyBroker(ctx, func(ctx context.Context, a net.Addr) error {
		req := &describeconfigs.Request{Resources: []describeconfigs.RequestResource{{ResourceType: resourceTopic, ResourceName: topic, ConfigNames: names}}}
		res, err := ask[*describeconfigs.Response](ctx, c, a, req, true)
		if err != nil {
			return err
		}
		for _, r := range res.Resources {
			if r.ErrorCode != 0 {
				return &Error{Code: r.ErrorCode, API: "DescribeConfigs", Address: a.String(), Topic: topic, Partition: -1, Detail: r.ErrorMessage}
			}
			for _, e := range r.ConfigEntries {
				out[e.ConfigName] = e.ConfigValue
			}
		}
		return nil
	})
	return out, err
}
