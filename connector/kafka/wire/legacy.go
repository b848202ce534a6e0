package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
)

// The values of Config.BrokerVersion. Both speak the same calls, in version 0; TLS came with 0.9, SASL with a password
// after it.
const (
	Broker082 = "0.8.2"
	Broker090 = "0.9.0"
)

// fixedCalls are the calls of a legacy broker that are used, all in version 0. Groups, transactions and
// idempotence are not among them.
var fixedCalls = []protocol.ApiKey{protocol.Produce, protocol.Fetch, protocol.ListOffsets, protocol.Metadata}

// legacy says that the brokers do not know ApiVersions.
func (c Config) legacy() bool { return c.BrokerVersion != "" }

func (c Config) checkBrokerVersion() error {
	if !c.legacy() {
		return nil
	}
	switch {
	case !slices.Contains([]string{Broker082, Broker090}, c.BrokerVersion):
		return fmt.Errorf("broker.version: %q is not known: use %s or %s, or remove it", c.BrokerVersion, Broker082, Broker090)
	case c.SASL.Mechanism != "":
		return fmt.Errorf("broker.version %s: brokers before 0.10 have no SASL with a password: remove sasl.mechanism", c.BrokerVersion)
	case c.TLS != nil && c.BrokerVersion == Broker082:
		return fmt.Errorf("broker.version %s: brokers before 0.9 have no TLS: set security.protocol to PLAINTEXT", c.BrokerVersion)
	}
	return nil
}

// fixedConn stands between kafka-go and a broker that closes the connection on ApiVersions: it answers this
// first question itself. One goroutine at a time reads and writes.
type fixedConn struct {
	net.Conn
	question []byte // as far as it was written
	answer   []byte // what is not read yet
	answered bool
}

// Write keeps the first request to itself.
func (c *fixedConn) Write(p []byte) (int, error) {
	if c.answered {
		return c.Conn.Write(p)
	}
	c.question = append(c.question, p...)
	if len(c.question) < 12 || len(c.question) < 4+int(binary.BigEndian.Uint32(c.question)) {
		return len(p), nil
	}
	c.answer = fixedVersions(c.question[8:12])
	c.question, c.answered = nil, true
	return len(p), nil
}

// Read gives the answer, then what the broker says.
func (c *fixedConn) Read(p []byte) (int, error) {
	if len(c.answer) > 0 {
		n := copy(p, c.answer)
		c.answer = c.answer[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// fixedVersions is the answer to ApiVersions v0 that the broker would give if it knew the call.
func fixedVersions(correlationID []byte) []byte {
	w := writer{b: append(make([]byte, 4), correlationID...)}
	w.int16(CodeNone)
	w.int32(int32(len(fixedCalls)))
	for _, key := range fixedCalls {
		w.int16(int16(key))
		w.int16(0)
		w.int16(0)
	}
	return w.finish()
}

// checkLegacy finds out whether a broker is as old as the configuration says: it must close the connection
// on ApiVersions, or not know the calls of 0.11.
func (c *Cluster) checkLegacy(ctx context.Context) error {
	return c.anyBroker(ctx, func(ctx context.Context, a net.Addr) error {
		newest, err := c.newestFetch(ctx, a)
		var peer *PeerError
		switch {
		case errors.As(err, &peer):
			return err
		case newest >= 4:
			return versionError(a.String(), "the broker knows the calls of Kafka 0.11 and later: remove broker.version %s", c.cfg.BrokerVersion)
		}
		_, err = c.askMetadata(ctx, a, []string{})
		return err
	})
}

// newestFetch asks what checkLegacy is about, on a connection of its own; -1 is no answer.
func (c *Cluster) newestFetch(ctx context.Context, a net.Addr) (int16, error) {
	conn, err := c.dialer.connect(ctx, a.Network(), a.String())
	if err != nil {
		return -1, &CallError{API: "ApiVersions", Address: a.String(), Err: err}
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return -1, &CallError{API: "ApiVersions", Address: a.String(), Err: err}
		}
	}
	message, err := protocol.NewConn(conn, c.cfg.ClientID).RoundTrip(&apiversions.Request{})
	if err != nil {
		return -1, &CallError{API: "ApiVersions", Address: a.String(), Sent: true, Err: err}
	}
	res, ok := message.(*apiversions.Response)
	if !ok {
		return -1, fmt.Errorf("ApiVersions was answered with a %T", message)
	}
	for _, k := range res.ApiKeys {
		if protocol.ApiKey(k.ApiKey) == protocol.Fetch {
			return k.MaxVersion, nil
		}
	}
	return -1, nil
}
