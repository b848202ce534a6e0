package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"

	"github.com/segmentio/kafka-go/protocol"
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

// checkLegacy finds out whether a broker is as old as the configuration says. One of 0.11 or later would give the records of
// aborted transactions to Fetch v0 as if they were good.
func (c *Cluster) checkLegacy(ctx context.Context) error {
	return c.anyBroker(ctx, func(ctx context.Context, a net.Addr) error {
		age := &ageTalk{}
		if err := c.callAgain(ctx, a, age); err != nil && !closedByPeer(err) {
			return err
		}
		if age.modern {
			return versionError(a.String(), "the broker knows the calls of Kafka 0.11 and later: remove broker.version %s", c.cfg.BrokerVersion)
		}
		_, err := c.askMetadata(ctx, a, []string{})
		return err
	})
}

// modernMetadata is the Metadata that came with Kafka 0.11.
const modernMetadata = 4

// ageTalk tells brokers before 0.11 from others without a call that they do not know: on ApiVersions a broker of 0.9 leaves
// requests of other clients unanswered too. To Metadata v4 those up to 0.9, which look at no version, answer as to v0, and
// one of 0.10 closes the connection.
type ageTalk struct{ modern bool }

func (*ageTalk) key() protocol.ApiKey { return protocol.Metadata }

func (t *ageTalk) converse(conn *protocol.Conn, h callHeader) error {
	h.version = modernMetadata
	w := beginRequest(nil, h)
	w.int32(0) // topics: none, or all to those that read it as v0
	w.int8(0)  // do not create any
	if _, err := conn.Write(w.finish()); err != nil {
		return err
	}
	in, err := newReader(conn, h)
	if err != nil {
		return err
	}
	frame := make([]byte, in.remain)
	if in.into(frame); in.err != nil {
		return in.err
	}
	t.modern = !isMetadataV0(frame)
	return nil
}

// isMetadataV0 says whether an answer has the layout of Metadata v0, to the byte.
func isMetadataV0(frame []byte) bool {
	in := &reader{from: bytes.NewReader(frame), remain: len(frame)}
	for range in.count(10) {
		in.int32() // broker
		in.bytes(int(in.int16()))
		in.int32() // port
	}
	for range in.count(8) {
		in.int16() // error
		in.bytes(int(in.int16()))
		for range in.count(18) {
			in.int16()    // error
			in.int32()    // partition
			in.int32()    // leader
			for range 2 { // replicas, those in sync
				in.bytes(4 * in.count(4))
			}
		}
	}
	return in.end() == nil
}
