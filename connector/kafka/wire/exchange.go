package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
)

// conversation is one request with its answer, on a connection that is ours for the time.
type conversation interface {
	key() protocol.ApiKey
	// converse writes the request and reads the whole answer.
	converse(conn *protocol.Conn, h callHeader) error
}

// callHeader is what every request begins with.
type callHeader struct {
	key           protocol.ApiKey
	version       int16
	correlationID int32
	clientID      string
	maxResponse   int
}

// exchange carries a conversation through kafka-go's Transport. It has no routing methods, so
// Transport sends it to the address it is given; and it knows whether kafka-go's goroutine still
// touches the buffers of the conversation when the caller gives up.
type exchange struct {
	talk   conversation
	header callHeader
	hasKey bool

	mu      sync.Mutex
	dropped bool
	conn    *protocol.Conn // while converse runs
	sent    bool
	done    chan struct{} // closed when converse has returned
}

// ApiKey is that of the request within.
func (x *exchange) ApiKey() protocol.ApiKey { return x.talk.key() }

// Required notes what the broker offers, and always asks for RawExchange.
func (x *exchange) Required(versions map[protocol.ApiKey]int16) bool {
	x.header.version, x.hasKey = versions[x.talk.key()]
	return true
}

// RawExchange runs in the goroutine that owns the connection.
func (x *exchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	key := x.talk.key()
	if !x.hasKey || x.header.version < key.MinVersion() {
		return nil, &Error{Code: CodeUnsupportedVersion, API: key.String(), Partition: -1, Detail: "the broker does not offer a version that Sluice speaks"}
	}
	conn, ok := rw.(*protocol.Conn)
	if !ok {
		return nil, fmt.Errorf("the connection is a %T", rw)
	}
	if !x.begin(conn) {
		return nil, context.Canceled
	}
	defer x.end()
	if err := x.talk.converse(conn, x.header); err != nil {
		return nil, err
	}
	return x, nil
}

func (x *exchange) begin(conn *protocol.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.dropped {
		return false
	}
	x.conn, x.sent = conn, true
	return true
}

func (x *exchange) end() {
	x.mu.Lock()
	x.conn = nil
	x.mu.Unlock()
	close(x.done)
}

// drop makes sure that nobody touches the conversation any more: it keeps it from starting, or cuts
// its connection and waits. It returns whether anything was sent.
func (x *exchange) drop() (sent bool) {
	x.mu.Lock()
	x.dropped = true
	sent = x.sent
	if x.conn != nil {
		_ = x.conn.SetDeadline(time.Unix(1, 0)) // fails only on a closed connection
	}
	x.mu.Unlock()
	if sent {
		<-x.done
	}
	return sent
}

// call performs a conversation with one broker. Every call has a deadline: without one, kafka-go
// leaks a connection and a goroutine per call to a hung broker.
func (c *Cluster) call(ctx context.Context, to net.Addr, talk conversation) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.CallTimeout)
	defer cancel()
	return c.callOnce(ctx, to, talk)
}

// callAgain is call for requests that may be repeated: a broker closes idle connections (and SASL
// sessions that ran out) at any moment, and the pool may hold a few of them.
func (c *Cluster) callAgain(ctx context.Context, to net.Addr, talk conversation) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.CallTimeout)
	defer cancel()
	var err error
	for range 3 {
		if err = c.callOnce(ctx, to, talk); !closedByPeer(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (c *Cluster) callOnce(ctx context.Context, to net.Addr, talk conversation) error {
	if c.closed.Load() {
		return errClosed
	}
	key := talk.key()
	x := &exchange{talk: talk, done: make(chan struct{})}
	x.header = callHeader{key: key, correlationID: c.correlation.Add(1), clientID: c.cfg.ClientID, maxResponse: c.cfg.MaxResponseBytes}
	_, err := c.transport.RoundTrip(ctx, to, x)
	if err == nil {
		return nil
	}
	sent := x.drop()
	return c.explain(ctx, err, &CallError{API: key.String(), Address: to.String(), Sent: sent})
}

// explain turns what kafka-go says into this package's errors; call is filled in but for its cause.
func (c *Cluster) explain(ctx context.Context, err error, call *CallError) error {
	var answer *Error
	var peer *PeerError
	var setup *SetupError
	var code kafka.Error
	switch {
	case errors.As(err, &answer):
		answer.Address = call.Address
		return answer
	case errors.As(err, &peer), errors.As(err, &setup):
		return err
	case errors.As(err, &code): // from SASL and version negotiation
		return &Error{Code: int16(code), API: "connect", Address: call.Address, Partition: -1}
	case errors.Is(ctx.Err(), context.Canceled):
		err = fmt.Errorf("given up: %w", context.Canceled)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("no answer in time: %w", err)
	case closedByPeer(err) && !call.Sent && c.cfg.SASL.Mechanism != "":
		err = fmt.Errorf("the broker closed the connection while we logged in with %s (if it always does, check sasl.mechanism, sasl.username and sasl.password): %w", c.cfg.SASL.Mechanism, err)
	case closedByPeer(err):
		err = fmt.Errorf("the broker closed the connection (if it always does, the listener may need SASL or TLS: check security.protocol; a broker before Kafka 0.10 needs broker.version): %w", err)
	}
	call.Err = err
	return call
}

// message is a conversation in kafka-go's own encoding.
type message struct {
	request  protocol.Message
	response protocol.Message
}

func (m *message) key() protocol.ApiKey { return m.request.ApiKey() }

func (m *message) converse(conn *protocol.Conn, h callHeader) error {
	if err := protocol.WriteRequest(conn, h.version, h.correlationID, h.clientID, m.request); err != nil {
		return err
	}
	head, err := conn.Peek(4)
	if err != nil {
		return eofIsUnexpected(err)
	}
	if size := binary.BigEndian.Uint32(head); size < 4 || int64(size) > int64(h.maxResponse) {
		return fmt.Errorf("an answer of %d bytes is refused: the limit is %d", size, h.maxResponse)
	}
	id, res, err := protocol.ReadResponse(conn, h.key, h.version)
	if err != nil {
		return err
	}
	if id != h.correlationID {
		return fmt.Errorf("the answer belongs to request %d, not to %d", id, h.correlationID)
	}
	forgetEpochs(res, h.version)
	m.response = res
	return nil
}

// forgetEpochs makes the leader epochs of an answer unknown whose version has none (brokers before 2.1): kafka-go leaves
// them 0, which is an epoch.
func forgetEpochs(res protocol.Message, version int16) {
	switch r := res.(type) {
	case *metadata.Response:
		for i := 0; version < 7 && i < len(r.Topics); i++ {
			for k := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[k].LeaderEpoch = -1
			}
		}
	case *listoffsets.Response:
		for i := 0; version < 4 && i < len(r.Topics); i++ {
			for k := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[k].LeaderEpoch = -1
			}
		}
	case *offsetfetch.Response:
		for i := 0; version < 5 && i < len(r.Topics); i++ {
			for k := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[k].ComittedLeaderEpoch = -1
			}
		}
	}
}

func eofIsUnexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ask sends a kafka-go message to one address and returns the answer.
func ask[T protocol.Message](ctx context.Context, c *Cluster, to net.Addr, req protocol.Message, repeat bool) (T, error) {
	var none T
	m := &message{request: req}
	do := c.call
	if repeat {
		do = c.callAgain
	}
	if err := do(ctx, to, m); err != nil {
		return none, err
	}
	res, ok := m.response.(T)
	if !ok {
		return none, fmt.Errorf("%s answered with a %T", req.ApiKey(), m.response)
	}
	return res, nil
}
