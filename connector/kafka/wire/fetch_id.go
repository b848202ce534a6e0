package wire

import (
	"fmt"

	"github.com/segmentio/kafka-go/protocol"
)

// fetchByIDVersion is the first Fetch that names topics by their ids (KIP-516, Kafka 3.1), beyond what kafka-go
// speaks: a broker refuses to read another topic of the same name.
const fetchByIDVersion = 13

// knowsIDs says whether all topics of the request can be named by their ids.
func (f *fetchTalk) knowsIDs() bool {
	for _, g := range f.order {
		id := f.req.Partitions[g.index[0]].TopicID
		if id == ([16]byte{}) {
			return false
		}
		for _, i := range g.index[1:] {
			if f.req.Partitions[i].TopicID != id {
				return false
			}
		}
	}
	return true
}

// chooseVersion raises the version to fetchByIDVersion if ids are known and the broker takes them. What a broker
// takes is asked once, and again after a call that failed: it may be another release by then.
func (f *fetchTalk) chooseVersion(conn *protocol.Conn, h *callHeader) error {
	if h.version < h.key.MaxVersion() || !f.knowsIDs() {
		return nil
	}
	f.c.mu.Lock()
	takes, asked := f.c.fetchesByID[f.address]
	f.c.mu.Unlock()
	if !asked {
		var err error
		if takes, err = offers(conn, *h, fetchByIDVersion); err != nil {
			return err
		}
		f.c.mu.Lock()
		f.c.fetchesByID[f.address] = takes
		f.c.mu.Unlock()
	}
	if takes {
		h.version = fetchByIDVersion
	}
	return nil
}

// forgetVersion has the broker be asked again what it takes.
func (f *fetchTalk) forgetVersion() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	delete(f.c.fetchesByID, f.address)
}

// writeByID appends the topics and the rest of the request.
func (f *fetchTalk) writeByID(w *writer) {
	w.compact(len(f.order))
	for _, g := range f.order {
		id := f.req.Partitions[g.index[0]].TopicID
		w.b = append(w.b, id[:]...)
		w.compact(len(g.index))
		for _, i := range g.index {
			p := &f.req.Partitions[i]
			w.int32(p.Partition)
			w.int32(p.LeaderEpoch)
			w.int64(p.Offset)
			w.int32(-1) // last fetched epoch: for followers
			w.int64(-1) // log start: for followers
			w.int32(int32(orDefault(p.MaxBytes, 1<<20)))
			w.noTags()
		}
		w.noTags()
	}
	w.compact(0) // forgotten topics
	w.compact(len(f.req.RackID))
	w.b = append(w.b, f.req.RackID...)
	w.noTags()
}

// readByID reads the answer from its topics on.
func (f *fetchTalk) readByID(in *reader) error {
	next := 0 // the topic that is likely to come: brokers keep the order
	for range in.compactCount() {
		id := in.uuid()
		for range in.compactCount() {
			if in.err != nil {
				return in.err
			}
			var ok bool
			if next, ok = f.groupOf(id, next); !ok {
				return fmt.Errorf("the answer holds the topic id %x, which was not asked for", id)
			}
			if err := f.partition(in, fetchByIDVersion, f.order[next]); err != nil {
				return err
			}
		}
		in.tags()
	}
	in.tags()
	return in.err
}

// groupOf finds the topic of an id, beginning at a guess.
func (f *fetchTalk) groupOf(id [16]byte, guess int) (int, bool) {
	for n := range f.order {
		i := (guess + n) % len(f.order)
		if f.req.Partitions[f.order[i].index[0]].TopicID == id {
			return i, true
		}
	}
	return 0, false
}

func readCompactAborted(in *reader) []AbortedTxn {
	n := in.compactCount()
	if n > in.remain/16 {
		in.err = fmt.Errorf("%d aborted transactions in %d bytes", n, in.remain)
	}
	if n == 0 || in.err != nil {
		return nil
	}
	out := make([]AbortedTxn, n)
	for i := range out {
		out[i] = AbortedTxn{in.int64(), in.int64()}
		in.tags()
	}
	return out
}
