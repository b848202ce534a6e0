package exchange

import (
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/ident"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// ServerOptions are what the data server must be made with: the codec, message sizes, static windows, and no
// keepalive; see pulse.
func (n *Network) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(n.codec), grpc.MaxRecvMsgSize(maxFrameBytes + messageSlackBytes),
		grpc.StaticStreamWindowSize(windowBytes), grpc.StaticConnWindowSize(windowBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: math.MaxInt64}),
	}
}

// Register adds the exchange service to the data server. It is the ExchangeService of exchange.proto;
// only its messages are not made by the generated code.
func (n *Network) Register(server grpc.ServiceRegistrar) {
	desc := pb.ExchangeService_ServiceDesc
	desc.HandlerType = nil
	desc.Streams = []grpc.StreamDesc{{
		StreamName: desc.Streams[0].StreamName, ClientStreams: true, ServerStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error { return n.serve(stream) },
	}}
	server.RegisterService(&desc, nil)
}

// serve is the life of one incoming stream.
func (n *Network) serve(stream grpc.ServerStream) error {
	var first inMessage
	if err := stream.RecvMsg(&first); err != nil {
		return err
	}
	open := first.small.GetOpen()
	if open == nil || open.GetAttempt() == nil {
		return status.Error(codes.InvalidArgument, "the first message of an exchange must be Open")
	}
	if open.GetReceiver() != string(n.cfg.Worker) {
		return status.Errorf(codes.FailedPrecondition, "this is task manager %s, not %s", n.cfg.Worker, open.GetReceiver())
	}
	job, fence := wire.AttemptFromProto(open.GetAttempt())
	a, err := n.await(stream.Context(), attemptKey{job, fence})
	if err != nil {
		return status.Errorf(awaitCode(err), "job %s attempt %s: %v", job, fence, err)
	}
	in, err := a.join(ident.WorkerID(open.GetSender()))
	if err != nil {
		return err
	}
	return in.serve(stream)
}

func awaitCode(err error) codes.Code {
	switch {
	case errors.Is(err, errNewerAttempt):
		return codes.Aborted
	case errors.Is(err, errCrowded):
		return codes.ResourceExhausted
	case errors.Is(err, errNoAttempt):
		return codes.NotFound
	default:
		return codes.Canceled
	}
}

// incoming is the receiving side of one stream.
type incoming struct {
	attempt  *Attempt
	peer     Peer
	channels map[Channel]*inChannel
	pulse    pulse

	mu      sync.Mutex
	pending map[Channel]int // credit that is to be granted
	wake    chan struct{}
}

// join gives the stream of a peer its place in the attempt. The caller must call serve.
func (a *Attempt) join(sender ident.WorkerID) (*incoming, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return nil, status.Error(codes.Aborted, "the attempt has ended")
	}
	peer, ok := a.awaited[sender]
	if !ok {
		return nil, status.Errorf(codes.AlreadyExists, "task manager %q has a stream already or none to send on", sender)
	}
	delete(a.awaited, sender)
	in := &incoming{
		attempt: a, peer: peer, channels: map[Channel]*inChannel{},
		pending: map[Channel]int{}, wake: make(chan struct{}, 1),
	}
	for name, c := range a.channels {
		if a.placements[a.senderOf(name)].Worker == sender {
			in.channels[name] = c
			c.credits = &remoteCredit{in: in, name: name, threshold: c.limitBytes / 4}
			in.pending[name] = c.limitBytes
		}
	}
	in.pulse.hear() // it has opened the stream
	in.signal()
	a.incoming.Add(1) // for the reader
	return in, nil
}

// remoteCredit gathers what is consumed on a channel and grants it in larger pieces. It belongs to the
// receiving subtask.
type remoteCredit struct {
	in        *incoming
	name      Channel
	threshold int
	gathered  int
}

func (r *remoteCredit) grant(bytes int) {
	r.gathered += bytes
	if r.gathered < r.threshold {
		return
	}
	r.in.mu.Lock()
	r.in.pending[r.name] += r.gathered
	r.in.mu.Unlock()
	r.gathered = 0
	r.in.signal()
}

func (in *incoming) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// serve grants credit, while a reader queues what arrives, until the attempt ends or the stream breaks.
func (in *incoming) serve(stream grpc.ServerStream) error {
	read := make(chan error, 1)
	go func() {
		defer in.attempt.incoming.Done() // returning from serve ends the reader's wait
		read <- in.read(stream)
	}()
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-in.attempt.done:
			return status.Errorf(codes.Aborted, "the attempt has ended on task manager %s", in.attempt.network.cfg.Worker)
		case err := <-read:
			in.attempt.fail(&PeerError{Peer: in.peer, Ended: errors.Is(err, io.EOF), Cause: plain(err)})
			return status.Errorf(codes.Aborted, "the stream has ended: %v", plain(err))
		case <-in.wake:
			if err := in.sendCredit(stream); err != nil {
				in.attempt.fail(&PeerError{Peer: in.peer, Cause: plain(err)})
				return err
			}
		case <-ticker.C:
			if err := in.beat(stream); err != nil {
				in.attempt.fail(&PeerError{Peer: in.peer, Cause: plain(err)})
				return err
			}
		}
	}
}

// beat gives a sign of life, and fails if the peer gives none.
func (in *incoming) beat(stream grpc.ServerStream) error {
	if err := in.pulse.beat(); err != nil {
		return err
	}
	return stream.SendMsg(&pb.ExchangeCredit{})
}

func (in *incoming) sendCredit(stream grpc.ServerStream) error {
	in.mu.Lock()
	grants := make([]*pb.ExchangeCredit, 0, len(in.pending))
	for c, n := range in.pending {
		grants = append(grants, &pb.ExchangeCredit{Edge: uint32(c.Edge), Sender: uint32(c.Sender), Receiver: uint32(c.Receiver), Bytes: uint32(n)})
	}
	clear(in.pending)
	in.mu.Unlock()
	for _, g := range grants {
		if err := stream.SendMsg(g); err != nil {
			return err
		}
	}
	return nil
}

// read queues what arrives. It never waits for a subtask: the credit is the bound.
func (in *incoming) read(stream grpc.ServerStream) error {
	for {
		var m inMessage
		if err := stream.RecvMsg(&m); err != nil {
			return err
		}
		in.pulse.hear()
		if m.frame == nil && m.small.GetFrame() == nil { // no more than a sign of life
			continue
		}
		name, q, err := m.element()
		if err != nil {
			return err
		}
		c, ok := in.channels[name]
		if !ok {
			return status.Errorf(codes.InvalidArgument, "channel %s does not come from %s", name, in.peer)
		}
		if err := c.push(q); err != nil {
			return err
		}
	}
}

// element is the message as the receiving subtask will see it.
func (m *inMessage) element() (Channel, queued, error) {
	if m.frame != nil {
		return m.channel, queued{kind: BatchElement, frame: m.frame, data: m.data, bytes: len(m.data)}, nil
	}
	switch f := m.small.GetFrame().(type) {
	case *pb.ExchangeFrame_Barrier:
		b := f.Barrier
		c := Channel{int(b.GetEdge()), int(b.GetSender()), int(b.GetReceiver())}
		return c, queued{kind: BarrierElement, id: ident.CheckpointID(b.GetCheckpoint())}, nil
	case *pb.ExchangeFrame_End:
		e := f.End
		return Channel{int(e.GetEdge()), int(e.GetSender()), int(e.GetReceiver())}, queued{kind: EndElement}, nil
	default:
		return Channel{}, queued{}, status.Errorf(codes.InvalidArgument, "unexpected message %T", f)
	}
}
