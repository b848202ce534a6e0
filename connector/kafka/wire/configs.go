package wire

import (
	"context"
	"net"
	"strconv"

	"github.com/segmentio/kafka-go/protocol/describeconfigs"
)

// The kinds of resources that have settings.
const (
	resourceTopic  int8 = 2
	resourceBroker int8 = 4
)

// TopicConfig reads settings of a topic by name, such as max.message.bytes; names that the broker
// does not know are absent.
func (c *Cluster) TopicConfig(ctx context.Context, topic string, names ...string) (map[string]string, error) {
	var out map[string]string
	err := c.anyBroker(ctx, func(ctx context.Context, a net.Addr) (err error) {
		out, err = c.describeConfigs(ctx, a, describeconfigs.RequestResource{ResourceType: resourceTopic, ResourceName: topic, ConfigNames: names})
		return err
	})
	return out, err
}

// BrokerConfig reads settings of a broker by name, such as transaction.max.timeout.ms; names that the
// broker does not know are absent.
func (c *Cluster) BrokerConfig(ctx context.Context, broker int32, names ...string) (map[string]string, error) {
	to, err := c.broker(ctx, broker)
	if err != nil {
		return nil, err
	}
	// no other broker knows them
	return c.describeConfigs(ctx, to, describeconfigs.RequestResource{ResourceType: resourceBroker, ResourceName: strconv.Itoa(int(broker)), ConfigNames: names})
}

func (c *Cluster) describeConfigs(ctx context.Context, to net.Addr, of describeconfigs.RequestResource) (map[string]string, error) {
	res, err := ask[*describeconfigs.Response](ctx, c, to, &describeconfigs.Request{Resources: []describeconfigs.RequestResource{of}}, true)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range res.Resources {
		if r.ErrorCode != 0 {
			topic := of.ResourceName
			if of.ResourceType != resourceTopic {
				topic = ""
			}
			return nil, &Error{Code: r.ErrorCode, API: "DescribeConfigs", Address: to.String(), Topic: topic, Partition: -1, Detail: r.ErrorMessage}
		}
		for _, e := range r.ConfigEntries {
			out[e.ConfigName] = e.ConfigValue
		}
	}
	return out, nil
}
