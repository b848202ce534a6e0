package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/go-zookeeper/zk"
)

// NoOffset is the value of a partition for which none is stored: no node, an empty one or a negative number.
const NoOffset int64 = -1

// maxTries is how often one partition is looked at after lost sessions and other writers.
const maxTries = 5

// errOvertaken: the node was changed between looking and writing.
var errOvertaken = errors.New("other clients keep changing the node")

// Partition names a partition of a topic.
type Partition struct {
	Topic     string
	Partition int32
}

// Offset is what is stored for a partition.
type Offset struct {
	Partition
	Value int64
	// Version counts the writes of the node; -1 if there is none. Only ReadOffsets sets it.
	Version int32
}

// ReadOffsets gives what is stored for the partitions, in their order; Value is NoOffset where nothing is.
// Data that is no number is an error that names path and data. An error means that nothing is known.
func (c *Client) ReadOffsets(ctx context.Context, group string, partitions []Partition) ([]Offset, error) {
	offsets := make([]Offset, len(partitions))
	err := c.each(ctx, group, partitions, func(ctx context.Context, i int, path string) error {
		return c.again(ctx, path, func(s *session) error {
			found, err := read(ctx, s, path)
			offsets[i] = Offset{Partition: partitions[i], Value: found.value, Version: found.version}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return offsets, nil
}

// WriteOffsets stores offsets, creating the nodes above. It goes only forward: a value that is stored
// already, or higher, is left; compared by the version of the node, so that another writer's newer value is
// never overwritten. Negative values are none, and left out. written counts the offsets that this call
// stored; with an error, the others may or may not be stored, and the same call may be repeated.
//
// An error of one node (no permission, data that is no number) does not keep the others from being
// written; no server that answers ends the call at once.
func (c *Client) WriteOffsets(ctx context.Context, group string, offsets []Offset) (written int, err error) {
	var partitions []Partition
	var values []int64
	for _, o := range offsets {
		if o.Value >= 0 {
			partitions, values = append(partitions, o.Partition), append(values, o.Value)
		}
	}
	var mu sync.Mutex
	err = c.each(ctx, group, partitions, func(ctx context.Context, i int, path string) error {
		stored, err := c.forward(ctx, path, values[i])
		if stored {
			mu.Lock()
			written++
			mu.Unlock()
		}
		return err
	})
	return written, err
}

// forward moves one offset up, if it is not there yet.
func (c *Client) forward(ctx context.Context, path string, value int64) (stored bool, err error) {
	sent := false // a write whose outcome is unknown
	err = c.again(ctx, path, func(s *session) error {
		found, err := read(ctx, s, path)
		if err != nil {
			return err
		}
		if found.value >= value {
			stored = sent && found.value == value
			return nil
		}
		data := strconv.AppendInt(nil, value, 10)
		if found.version == noVersion {
			err = c.createWithParents(ctx, s, path, data)
		} else {
			err = set(ctx, s, path, data, found.version)
		}
		stored = err == nil
		sent = sent || errors.Is(err, errUnknown)
		if errors.Is(err, zk.ErrBadVersion) || errors.Is(err, zk.ErrNodeExists) || errors.Is(err, zk.ErrNoNode) {
			if err := catchUp(ctx, s, path); err != nil {
				return err
			}
			return errOvertaken
		}
		return err
	})
	return stored, err
}

// again runs step, and once more while its outcome is unknown or somebody else was faster. The step looks at
// the node first.
func (c *Client) again(ctx context.Context, path string, step func(*session) error) error {
	for try := 1; ; try++ {
		s, err := c.acquire(ctx)
		if err != nil {
			return err
		}
		err = step(s)
		if err == nil {
			return nil
		}
		repeat := errors.Is(err, errUnknown) || errors.Is(err, errOvertaken)
		if !repeat || try == maxTries || ctx.Err() != nil {
			return c.explain(s, path, err)
		}
	}
}

// explain words the error of a node.
func (c *Client) explain(s *session, path string, err error) error {
	if errors.Is(err, zk.ErrNoAuth) {
		who := "without credentials"
		if c.cfg.Auth != "" {
			who = "with the digest credentials given"
		}
		err = fmt.Errorf("%w: %w %s: its ACL, or that of the node above, belongs to somebody else; check user and password, or let its owner grant them", err, ErrNoPermission, who)
	}
	return fmt.Errorf("zookeeper: server %s: %s: %w", s.server, path, err)
}

// noVersion stands for a node that does not exist.
const noVersion = -1

// stored is what a node holds.
type stored struct {
	value   int64
	version int32
}

func read(ctx context.Context, s *session, path string) (stored, error) {
	n, err := get(ctx, s, path)
	if errors.Is(err, zk.ErrNoNode) {
		return stored{NoOffset, noVersion}, nil
	}
	if err != nil {
		return stored{}, err
	}
	value, err := parseOffset(n.data)
	return stored{value, n.version}, err
}

func parseOffset(data []byte) (int64, error) {
	if len(data) == 0 {
		return NoOffset, nil
	}
	value, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("holds %.40q (%d bytes), which is no offset; find out who wrote that, then set the node to a number or delete it", data, len(data))
	}
	return max(value, NoOffset), nil
}
