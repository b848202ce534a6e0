package zookeeper

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"
)

// node is the data of a node and how often it was written.
type node struct {
	data    []byte
	version int32
}

func get(ctx context.Context, s *session, path string) (node, error) {
	return ask(ctx, s, func(conn *zk.Conn) (node, error) {
		data, stat, err := conn.Get(path)
		if err != nil {
			return node{}, err
		}
		return node{data, stat.Version}, nil
	})
}

// set writes a node if it still has the version.
func set(ctx context.Context, s *session, path string, data []byte, version int32) error {
	return tell(ctx, s, func(conn *zk.Conn) error {
		_, err := conn.Set(path, data, version)
		return err
	})
}

func create(ctx context.Context, s *session, path string, data []byte, acl []zk.ACL) error {
	return tell(ctx, s, func(conn *zk.Conn) error {
		_, err := conn.Create(path, data, 0, acl)
		return err
	})
}

func exists(ctx context.Context, s *session, path string) (bool, error) {
	return ask(ctx, s, func(conn *zk.Conn) (bool, error) {
		found, _, err := conn.Exists(path)
		return found, err
	})
}

// catchUp makes the server as new as the leader is now.
func catchUp(ctx context.Context, s *session, path string) error {
	return tell(ctx, s, func(conn *zk.Conn) error {
		_, err := conn.Sync(path)
		return err
	})
}

func authenticate(ctx context.Context, s *session, credentials string) error {
	return tell(ctx, s, func(conn *zk.Conn) error { return conn.AddAuth("digest", []byte(credentials)) })
}

// tell is ask without a result.
func tell(ctx context.Context, s *session, request func(*zk.Conn) error) error {
	_, err := ask(ctx, s, func(conn *zk.Conn) (struct{}, error) { return struct{}{}, request(conn) })
	return err
}

// acl is who may use a new node.
func (c *Client) acl(path string) []zk.ACL {
	if c.cfg.ACL == ACLCreatorAll && path != c.consumers() {
		return zk.AuthACL(zk.PermAll)
	}
	return zk.WorldACL(zk.PermAll)
}

// createWithParents creates a node and what is missing above it, down from the chroot. ErrNodeExists is only
// said of the node itself.
func (c *Client) createWithParents(ctx context.Context, s *session, path string, data []byte) error {
	err := create(ctx, s, path, data, c.acl(path))
	if !errors.Is(err, zk.ErrNoNode) {
		return err
	}
	for at := len(c.cfg.Chroot) + 1; at < len(path); at++ {
		if path[at] != '/' {
			continue
		}
		err := create(ctx, s, path[:at], nil, c.acl(path[:at]))
		switch {
		case errors.Is(err, zk.ErrNoNode) && path[:at] == c.consumers():
			return c.noChroot()
		case err != nil && !errors.Is(err, zk.ErrNodeExists):
			return fmt.Errorf("create %s: %w", path[:at], err)
		}
	}
	return create(ctx, s, path, data, c.acl(path))
}
