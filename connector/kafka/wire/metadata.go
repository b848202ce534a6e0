package wire

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	meta "github.com/segmentio/kafka-go/protocol/metadata"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String is topic/partition.
func (t TopicPartition) String() string { return fmt.Sprintf("%s/%d", t.Topic, t.Partition) }

// Broker is a member of the cluster.
type Broker struct {
	ID      int32
	Address string
	Rack    string
}

// Partition is a partition of a topic. Err is set when it has no leader.
type Partition struct {
	ID          int32
	Leader      int32 // broker id, -1 for none
	LeaderEpoch int32 // -1 if the broker does not tell
	Replicas    []int32
	InSync      []int32
	Err         error
}

// Topic is a topic with its partitions in order. Err is set when the topic does not exist or may not
// be seen; the partitions are empty then.
type Topic struct {
	Name       string
	Internal   bool
	Partitions []Partition
	Err        error
}

// Metadata is one answer about the cluster; topics are sorted by name.
type Metadata struct {
	ClusterID  string
	Controller int32
	Brokers    []Broker
	Topics     []Topic
}

// Topic finds a topic by name.
func (m *Metadata) Topic(name string) (*Topic, bool) {
	i, ok := slices.BinarySearchFunc(m.Topics, name, func(t Topic, n string) int { return strings.Compare(t.Name, n) })
	if !ok {
		return nil, false
	}
	return &m.Topics[i], true
}

// Leader is who serves a partition.
type Leader struct {
	Broker int32
	Epoch  int32 // -1 unknown
}

// Metadata asks the cluster, always anew. Nil topics means all of them, an empty list none. Topics
// are never created by asking.
func (c *Cluster) Metadata(ctx context.Context, topics []string) (*Metadata, error) {
	var out *Metadata
	err := c.anyBroker(ctx, func(ctx context.Context, a net.Addr) error {
		var err error
		out, err = c.askMetadata(ctx, a, topics)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.learn(out, topics == nil)
	return out, nil
}

func (c *Cluster) askMetadata(ctx context.Context, a net.Addr, topics []string) (*Metadata, error) {
	asked := topics
	if c.cfg.legacy() {
		asked = []string{} // all: to ask for a topic by name might create it
	}
	res, err := ask[*meta.Response](ctx, c, a, &meta.Request{TopicNames: asked}, true)
	if err != nil {
		return nil, err
	}
	if len(res.Brokers) == 0 {
		// a broker that has just started knows nobody yet
		return nil, &Error{Code: CodeBrokerNotAvailable, API: "Metadata", Address: a.String(), Partition: -1, Detail: "the broker does not know the cluster yet"}
	}
	out := metadataOf(res, a.String())
	if c.cfg.legacy() {
		out.legacy(topics, a.String())
	}
	return out, nil
}

func metadataOf(res *meta.Response, address string) *Metadata {
	m := &Metadata{ClusterID: res.ClusterID, Controller: res.ControllerID}
	for _, b := range res.Brokers {
		m.Brokers = append(m.Brokers, Broker{b.NodeID, brokerAddr(b.Host, b.Port).String(), b.Rack})
	}
	for _, t := range res.Topics {
		topic := Topic{Name: t.Name, Internal: t.IsInternal, Err: answerError(t.ErrorCode, "Metadata", address, t.Name, -1)}
		for _, p := range t.Partitions {
			code := p.ErrorCode
			if code == CodeNone && p.LeaderID < 0 {
				code = CodeLeaderNotAvailable
			}
			// REPLICA_NOT_AVAILABLE speaks of a follower; the leader serves
			if code == 9 && p.LeaderID >= 0 {
				code = CodeNone
			}
			topic.Partitions = append(topic.Partitions, Partition{
				ID: p.PartitionIndex, Leader: p.LeaderID, LeaderEpoch: p.LeaderEpoch, Replicas: p.ReplicaNodes, InSync: p.IsrNodes,
				Err: answerError(code, "Metadata", address, t.Name, p.PartitionIndex),
			})
		}
		slices.SortFunc(topic.Partitions, func(a, b Partition) int { return int(a.ID - b.ID) })
		m.Topics = append(m.Topics, topic)
	}
	slices.SortFunc(m.Topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return m
}

func (c *Cluster) learn(m *Metadata, all bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	brokers := make(map[int32]net.Addr, len(m.Brokers))
	for _, b := range m.Brokers {
		if old := c.brokers[b.ID]; old != nil && old.String() == b.Address {
			brokers[b.ID] = old
			continue
		}
		host, port, err := net.SplitHostPort(b.Address)
		if err == nil {
			brokers[b.ID] = tcpAddr(host, port)
		}
	}
	c.brokers = brokers
	if all {
		clear(c.topics)
	}
	for _, t := range m.Topics {
		c.topics[t.Name] = topicEntry{t, now}
	}
}

// Leader gives the leader of a partition, from an answer that is at most MetadataTTL old.
func (c *Cluster) Leader(ctx context.Context, topic string, partition int32) (Leader, error) {
	t, ok := c.cachedTopic(topic)
	if !ok {
		m, err := c.Metadata(ctx, []string{topic})
		if err != nil {
			return Leader{}, err
		}
		found, ok := m.Topic(topic)
		if !ok {
			return Leader{}, &Error{Code: CodeUnknownTopicOrPartition, API: "Metadata", Topic: topic, Partition: partition}
		}
		t = *found
	}
	if t.Err != nil {
		return Leader{}, t.Err
	}
	i, ok := slices.BinarySearchFunc(t.Partitions, partition, func(p Partition, id int32) int { return int(p.ID - id) })
	if !ok {
		return Leader{}, &Error{Code: CodeUnknownTopicOrPartition, API: "Metadata", Topic: topic, Partition: partition}
	}
	p := t.Partitions[i]
	if p.Err != nil {
		return Leader{}, p.Err
	}
	return Leader{p.Leader, p.LeaderEpoch}, nil
}

func (c *Cluster) cachedTopic(name string) (Topic, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.topics[name]
	if !ok || time.Since(e.at) > c.cfg.MetadataTTL {
		return Topic{}, false
	}
	return e.topic, true
}

// Forget drops what is cached of a topic, after an answer of ClassRefresh.
func (c *Cluster) Forget(topic string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.topics, topic)
}

// MissingTopics gives those topics that do not exist. A topic that may not be seen is an error.
func (c *Cluster) MissingTopics(ctx context.Context, topics []string) ([]string, error) {
	m, err := c.Metadata(ctx, append([]string{}, topics...))
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, name := range topics {
		t, ok := m.Topic(name)
		switch {
		case !ok || HasCode(t.Err, CodeUnknownTopicOrPartition):
			missing = append(missing, name)
		case t.Err != nil:
			return nil, t.Err
		}
	}
	return missing, nil
}
