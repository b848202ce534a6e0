package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/go-zookeeper/zk"
)

// Topics lists the topics of which a group has stored offsets, in order; none if it has none.
func (c *Client) Topics(ctx context.Context, group string) ([]string, error) {
	if err := CheckName("group", group); err != nil {
		return nil, fmt.Errorf("zookeeper: %w", err)
	}
	topics, err := c.list(ctx, path.Join(c.consumers(), group, "offsets"))
	slices.Sort(topics)
	return topics, err
}

// Partitions lists the partitions of a topic of which a group has stored offsets, in order. Nodes whose name is
// no number are passed over.
func (c *Client) Partitions(ctx context.Context, group, topic string) ([]Partition, error) {
	if err := errors.Join(CheckName("group", group), validatePartition(Partition{Topic: topic})); err != nil {
		return nil, fmt.Errorf("zookeeper: %w", err)
	}
	names, err := c.list(ctx, path.Join(c.consumers(), group, "offsets", topic))
	var found []Partition
	for _, name := range names {
		if n, err := strconv.ParseInt(name, 10, 32); err == nil && n >= 0 {
			found = append(found, Partition{topic, int32(n)})
		}
	}
	slices.SortFunc(found, func(a, b Partition) int { return int(a.Partition) - int(b.Partition) })
	return found, err
}

// list names the nodes below a node; none if it does not exist.
func (c *Client) list(ctx context.Context, node string) (names []string, err error) {
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	err = c.again(ctx, node, func(s *session) error {
		names, err = ask(ctx, s, func(conn *zk.Conn) ([]string, error) {
			found, _, err := conn.Children(node)
			return found, err
		})
		if errors.Is(err, zk.ErrNoNode) {
			return nil
		}
		return err
	})
	return names, err
}
