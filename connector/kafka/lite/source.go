package lite

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
)

type Source struct {
	c         *client
	positions []manifest.Position
	out       chan operator.SourceBatch
	mu        sync.Mutex
	lag       map[manifest.Split]int64
	waiting   func(string)
}

func NewSource(props map[string]string, positions []manifest.Position, waiting func(string)) *Source {
	return &Source{c: newClient(props), positions: positions, out: make(chan operator.SourceBatch, 16), lag: map[manifest.Split]int64{}, waiting: waiting}
}
func (s *Source) Batches() <-chan operator.SourceBatch { return s.out }
func (s *Source) Lag() []operator.SplitLag {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []operator.SplitLag
	for _, p := range s.positions {
		l, ok := s.lag[p.Split]
		if !ok {
			l = -1
		}
		out = append(out, operator.SplitLag{Split: p.Split, Lag: l})
	}
	return out
}
func (s *Source) Run(ctx context.Context) error {
	defer s.c.tr.CloseIdleConnections()
	var wg sync.WaitGroup
	for _, p := range s.positions {
		wg.Go(func() { s.split(ctx, p) })
	}
	wg.Wait()
	<-ctx.Done()
	return nil
}
func (s *Source) split(ctx context.Context, p manifest.Position) {
	aborts := map[int64]bool{}
	for ctx.Err() == nil && !p.AtEnd() {
		part, err := s.c.fetch(ctx, p.Topic, p.Partition, p.Next)
		if err == nil {
			err = code(part.ErrorCode)
		}
		if err != nil {
			if ctx.Err() == nil {
				s.waiting(err.Error())
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
			continue
		}
		s.waiting("")
		rest := part.RecordSet.B
		for len(rest) > 0 && !p.AtEnd() {
			raw := &Raw{}
			next, err := parse(rest, raw)
			if errors.Is(err, errPartial) {
				break
			}
			if err != nil {
				s.waiting(err.Error())
				break
			}
			rest = next
			if raw.Next() <= p.Next {
				continue
			}
			raw.Origin = operator.Origin{Topic: p.Topic, Partition: p.Partition}
			raw.From, raw.Stop = p.Next, p.Stop
			for _, a := range part.AbortedTransactions {
				if a.FirstOffset <= raw.Base {
					aborts[a.ProducerID] = true
				}
			}
			p.Next = raw.Next()
			sb := operator.SourceBatch{Split: p.Split, Next: p.Next, LeaderEpoch: -1, Release: func() {}}
			if raw.Control() {
				if len(raw.B) > headerBytes+8 && binary.BigEndian.Uint16(raw.B[headerBytes+6:]) == 0 {
					delete(aborts, raw.PID)
				}
				delete(aborts, raw.PID)
			} else if !(raw.Txn() && aborts[raw.PID]) {
				b := &operator.Batch{Packed: raw}
				if err := b.Open(); err != nil {
					s.waiting(err.Error())
					return
				}
				sb.Batch = b
			}
			select {
			case s.out <- sb:
			case <-ctx.Done():
				return
			}
			s.mu.Lock()
			s.lag[p.Split] = max(0, part.HighWatermark-p.Next)
			s.mu.Unlock()
		}
	}
}

type Sink struct {
	c       *client
	topic   string
	parts   int32
	mode    string
	codec   int
	sub     int
	mu      sync.Mutex
	wake    chan struct{}
	room    chan struct{}
	open    map[int32]*builder
	queue   []item
	bytes   int
	sealed  chan operator.SealedEpoch
	rr      int32
	waiting func(string)
}
type item struct {
	part int32
	b    *builder
	seal ident.CheckpointID
}

func NewSink(props map[string]string, topic, mode string, subtask int, waiting func(string)) *Sink {
	codec := map[string]int{"": 0, "none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}[props["compression.type"]]
	return &Sink{c: newClient(props), topic: topic, mode: mode, sub: subtask, codec: codec, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), open: map[int32]*builder{}, sealed: make(chan operator.SealedEpoch, 64), waiting: waiting}
}
func (s *Sink) Sealed() <-chan operator.SealedEpoch { return s.sealed }
func (s *Sink) Completed(ident.CheckpointID)        {}

func murmur2(data []byte) uint32 {
	const m, seed = 0x5bd1e995, 0x9747b28c
	h := uint32(seed) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data)
		k *= m
		k ^= k >> 24
		k *= m
		h = h*m ^ k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

func (s *Sink) Write(ctx context.Context, b *operator.Batch) error {
	if err := b.Open(); err != nil {
		return err
	}
	for s.partitions() == 0 {
		md, err := s.c.metadata(ctx, s.topic)
		if err == nil && len(md.Topics) == 1 && len(md.Topics[0].Partitions) > 0 {
			s.parts = int32(len(md.Topics[0].Partitions))
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	s.mu.Lock()
	for s.bytes > 32<<20 {
		s.mu.Unlock()
		select {
		case <-s.room:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.mu.Lock()
	}
	s.rr++
	for i := range b.Records {
		r := &b.Records[i]
		var p int32
		switch {
		case s.mode == "preserve":
			p = b.Origins[r.Origin].Partition
		case s.mode == "fixed":
			p = int32(s.sub) % s.parts
		case s.mode == "key" && r.Key.Len >= 0:
			p = int32((murmur2(b.Bytes(r.Key)) & 0x7fffffff) % uint32(s.parts))
		default:
			p = s.rr % s.parts
		}
		w := s.open[p]
		if w == nil {
			w = &builder{}
			w.reset()
			s.open[p] = w
		}
		before := len(w.b)
		w.add(r.Timestamp, b.Bytes(r.Key), b.Bytes(r.Value), b.Bytes(r.Headers))
		s.bytes += len(w.b) - before
		if len(w.b) > 500<<10 {
			s.queue = append(s.queue, item{part: p, b: w})
			delete(s.open, p)
		}
	}
	s.mu.Unlock()
	s.signal()
	return nil
}
func (s *Sink) partitions() int32 { return s.parts }
func (s *Sink) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
func (s *Sink) Seal(_ context.Context, id ident.CheckpointID) error {
	s.mu.Lock()
	for p, w := range s.open {
		s.queue = append(s.queue, item{part: p, b: w})
	}
	clear(s.open)
	s.queue = append(s.queue, item{seal: id})
	s.mu.Unlock()
	s.signal()
	return nil
}
func (s *Sink) Run(ctx context.Context) error {
	defer s.c.tr.CloseIdleConnections()
	var pid int64
	var epoch int16
	seq := map[int32]int32{}
	for {
		var err error
		if pid, epoch, err = s.c.initProducer(ctx); err == nil {
			break
		}
		s.waiting(err.Error())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
	s.waiting("")
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			for p, w := range s.open {
				s.queue = append(s.queue, item{part: p, b: w})
			}
			clear(s.open)
		}
		q := s.queue
		s.queue = nil
		s.mu.Unlock()
		if len(q) == 0 {
			select {
			case <-s.wake:
				select {
				case <-time.After(5 * time.Millisecond):
				case <-ctx.Done():
				}
			case <-ctx.Done():
				return nil
			}
			continue
		}
		for _, it := range q {
			if it.b == nil {
				select {
				case s.sealed <- operator.SealedEpoch{Checkpoint: it.seal}:
				case <-ctx.Done():
					return nil
				}
				continue
			}
			size := len(it.b.b) - headerBytes
			data, err := it.b.finish(pid, epoch, seq[it.part], s.codec)
			if err != nil {
				return err
			}
			for {
				err := s.c.produce(ctx, s.topic, it.part, data)
				if err == nil {
					break
				}
				s.waiting(err.Error())
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(100 * time.Millisecond):
				}
			}
			s.waiting("")
			seq[it.part] += it.b.n
			s.mu.Lock()
			s.bytes -= size
			s.mu.Unlock()
			select {
			case s.room <- struct{}{}:
			default:
			}
		}
	}
}
