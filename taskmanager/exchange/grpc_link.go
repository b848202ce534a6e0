package exchange

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

const (
	// windowBytes is the static flow-control window of a stream and of its connection. The credit of the
	// channels is what bounds memory, and receivers always read; the window only has to keep the line busy.
	windowBytes = 4 << 20
	// messageSlackBytes is for the header of a frame.
	messageSlackBytes = 64 << 10

	connectTimeout = 5 * time.Second
	// closeLinger is how long a peer may take to answer the end of a stream.
	closeLinger = time.Second
)

// link is the stream to one peer: one sender for all channels that go there.
type link struct {
	attempt *Attempt
	peer    Peer
	// credits holds the channels; it is complete before Run.
	credits map[Channel]*credit
	pulse   pulse

	mu    sync.Mutex
	queue []outMessage // bounded by the credits
	wake  chan struct{}
}

func newLink(a *Attempt, peer Peer) *link {
	return &link{attempt: a, peer: peer, credits: map[Channel]*credit{}, wake: make(chan struct{}, 1)}
}

// send queues a message that the credit of its channel allows.
func (l *link) send(m outMessage) {
	l.mu.Lock()
	l.queue = append(l.queue, m)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// keepBeating gives signs of life until ctx ends (nil) or the peer gives none.
func (l *link) keepBeating(ctx context.Context) error {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := l.pulse.beat(); err != nil {
			return err
		}
		l.mu.Lock()
		busy := len(l.queue) > 0
		l.mu.Unlock()
		if !busy { // what is queued is a sign of life, too
			l.send(outMessage{small: &pb.ExchangeFrame{}})
		}
	}
}

// take swaps the queue for an empty one.
func (l *link) take(empty []outMessage) []outMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.queue
	l.queue = empty[:0]
	return full
}

// run keeps the stream until ctx ends (nil) or it breaks (a PeerError).
func (l *link) run(ctx context.Context) error {
	err := l.stream(ctx)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	return patient(ctx, &PeerError{Peer: l.peer, Ended: endedByPeer(err), Cause: plain(err)})
}

func (l *link) stream(ctx context.Context) error {
	conn, err := l.attempt.network.dial(l.peer.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The stream outlives ctx for a moment, so that the peer sees an orderly end.
	own, end := context.WithCancelCause(context.WithoutCancel(ctx))
	var beating sync.WaitGroup
	defer beating.Wait()
	cancel := func() { end(nil) }
	defer cancel()
	opening := context.AfterFunc(ctx, cancel)
	stream, err := conn.NewStream(own, &pb.ExchangeService_ServiceDesc.Streams[0], pb.ExchangeService_Exchange_FullMethodName)
	if err != nil {
		return err
	}
	if !opening() {
		return context.Cause(ctx)
	}
	late := time.AfterFunc(math.MaxInt64, cancel)
	defer late.Stop()
	defer context.AfterFunc(ctx, func() { late.Reset(closeLinger) })()

	beating.Go(func() {
		if err := l.keepBeating(own); err != nil {
			end(err)
		}
	})
	received := make(chan error, 1)
	go func() { received <- l.receive(stream) }()
	sendErr := l.sendAll(ctx, stream, received)
	if sendErr == nil { // ctx ended
		_ = stream.CloseSend() // the stream is given up either way
	} else {
		cancel()
	}
	err = <-received
	switch {
	case errors.Is(context.Cause(own), errSilent):
		return errSilent
	case err != nil && !errors.Is(err, io.EOF) && sendErr == nil && ctx.Err() == nil:
		return err
	}
	return sendErr
}

// sendAll sends what is queued until ctx ends (nil) or the stream breaks. The error of the receiving
// side says more than that of the sending one; it is put back for the caller who waits for it.
func (l *link) sendAll(ctx context.Context, stream grpc.ClientStream, received chan error) error {
	open := &pb.ExchangeFrame{Frame: &pb.ExchangeFrame_Open{Open: &pb.ExchangeOpen{
		Attempt: wire.AttemptToProto(l.attempt.key.job, l.attempt.key.fence),
		Sender:  string(l.attempt.network.cfg.Worker), Receiver: string(l.peer.Worker),
	}}}
	out := []outMessage{{small: open}}
	for {
		for i := range out {
			if err := stream.SendMsg(&out[i]); err != nil {
				err = <-received
				received <- err
				return err
			}
			out[i] = outMessage{}
		}
		out = l.take(out)
		if len(out) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-received:
			received <- err
			return err
		case <-l.wake:
		}
	}
}

// receive takes credit until the stream ends.
func (l *link) receive(stream grpc.ClientStream) error {
	for {
		var m pb.ExchangeCredit
		if err := stream.RecvMsg(&m); err != nil {
			return err
		}
		l.pulse.hear()
		if m.GetBytes() == 0 { // no more than a sign of life
			continue
		}
		name := Channel{int(m.GetEdge()), int(m.GetSender()), int(m.GetReceiver())}
		c, ok := l.credits[name]
		if !ok {
			return status.Errorf(codes.Internal, "credit for channel %s, which does not exist", name)
		}
		c.grant(int(m.GetBytes()))
	}
}

// dial makes a connection for one attempt: a new one, so that the back-off after an earlier failure of
// the same address does not fail this attempt.
func (n *Network) dial(address string) (*grpc.ClientConn, error) {
	var creds credentials.TransportCredentials = insecure.NewCredentials()
	if n.cfg.Credentials != nil {
		creds = n.cfg.Credentials
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), // HTTPS_PROXY is for what lies outside
		grpc.WithStaticStreamWindowSize(windowBytes), grpc.WithStaticConnWindowSize(windowBytes),
		grpc.WithDisableRetry(), grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(n.codec), grpc.MaxCallSendMsgSize(maxFrameBytes+messageSlackBytes)),
	}
	if dial := n.cfg.Dial; dial != nil {
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr) }))
	}
	return grpc.NewClient("passthrough:///"+address, options...)
}

// endedByPeer says that the stream came to an orderly end on the peer's side.
func endedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || status.Code(err) == codes.Aborted
}

// plain takes the wrapping of grpc off, which says nothing to a reader.
func plain(err error) error {
	if st, ok := status.FromError(err); ok {
		return errors.New(st.Message())
	}
	return err
}
