package wire

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"testing/quick"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestRechecksum compares with the checksum of the whole message.
func TestRechecksum(t *testing.T) {
	agree := func(old, changed [40]byte, tail []byte, zeros uint16) bool {
		tail = append(tail, make([]byte, zeros)...)
		sum := crc32.Checksum(append(old[:], tail...), castagnoli)
		want := crc32.Checksum(append(changed[:], tail...), castagnoli)
		return rechecksum(sum, old[:], changed[:], len(tail)) == want
	}
	if err := quick.Check(agree, &quick.Config{MaxCount: 500}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 1 << 20} {
		if !agree([40]byte{1}, [40]byte{2}, make([]byte, n), 0) {
			t.Errorf("%d bytes behind", n)
		}
	}
}

// TestRewriteKeepsDamageVisible flips a bit of the records between fetch and rewrite: the broker has
// to see it.
func TestRewriteKeepsDamageVisible(t *testing.T) {
	r, _, err := ParseBatch(kmsgBatch(5, nil, kmsg.Record{Value: []byte("value")}), NewDecompressor())
	if err != nil {
		t.Fatal(err)
	}
	producer := Producer{ID: 9, Epoch: 3, Sequence: 77, Transactional: true}
	good, err := r.Rewrite([]byte("before"), producer)
	if err != nil {
		t.Fatal(err)
	}
	var h Header
	if _, err := ParseHeader(good[6:], &h); err != nil {
		t.Fatal(err)
	}
	if h.BaseOffset != 0 || h.LeaderEpoch != -1 || h.ProducerID != 9 || h.ProducerEpoch != 3 || h.BaseSequence != 77 || !h.Transactional() {
		t.Errorf("%+v", h)
	}
	r.raw[HeaderSize+rand.IntN(len(r.raw)-HeaderSize)] ^= 4
	bad, err := r.Rewrite(nil, producer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseHeader(bad, &h); err == nil {
		t.Error("the damage got a good checksum")
	}
}
