package wire

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/sluice-stream/sluice/operator"
)

// TestJoinChecksums cuts messages in two.
func TestJoinChecksums(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{0, 1, 7, 40, 41, 100, 5000, 1 << 20} {
		message := make([]byte, size)
		for i := range message {
			message[i] = byte(random.Uint32())
		}
		want := crc32.Checksum(message, castagnoli)
		for _, cut := range []int{0, size / 3, min(size, 40), size} {
			first, second := message[:cut], message[cut:]
			if got := joinChecksums(crc32.Checksum(first, castagnoli), crc32.Checksum(second, castagnoli), len(second)); got != want {
				t.Errorf("%d bytes cut at %d: %08x, want %08x", size, cut, got, want)
			}
		}
	}
}

// TestSumEarly: however records come into a batch, and whenever it is finished, it is the batch that they make one by one, with
// the checksum of all its bytes.
func TestSumEarly(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var early Builder // used again and again
	for _, codec := range []Codec{None, LZ4} {
		c, err := NewCompressor(codec, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, records := range []int{1, 2, 100, 700} {
			for _, atOnce := range []int{1, 3, 256, 1000} {
				t.Run(fmt.Sprint(codec, records, "records", atOnce, "at once"), func(t *testing.T) {
					b := someRecords(random, records)
					early.Reset()
					early.SumEarly()
					var plain Builder
					for rest := b.Records; len(rest) > 0; {
						n := early.AppendSome(b, rest[:min(atOnce, len(rest))], MaxBatchBytes, MaxBatchBytes)
						for i := range n {
							plain.Append(b, &rest[i])
						}
						if rest = rest[n:]; codec == None && random.IntN(8) == 0 { // more may come behind what was finished
							sameFinish(t, &early, &plain, c)
						}
					}
					sameFinish(t, &early, &plain, c)
				})
			}
		}
	}
}

func someRecords(random *rand.Rand, count int) *operator.Batch {
	var b operator.Batch
	some := func() []byte {
		if random.IntN(4) == 0 {
			return nil
		}
		return make([]byte, random.IntN(200))
	}
	for i := range count {
		r := operator.Record{Timestamp: 1_700_000_000_000 + int64(random.IntN(1000)), Key: b.Put(some()), Value: b.Put(some()), Headers: operator.Null}
		if i%5 == 0 {
			r.Headers = b.Put([]byte{2, 2, 'h', 1})
		}
		b.Records = append(b.Records, r)
	}
	return &b
}

// sameFinish finishes both for two producers, one after the other.
func sameFinish(t *testing.T, early, plain *Builder, c *Compressor) {
	t.Helper()
	for _, p := range []Producer{NoProducer, {ID: 7, Epoch: 2, Sequence: 9, Transactional: true}} {
		got, err := early.Finish(p, c)
		if err != nil {
			t.Fatal(err)
		}
		want, err := plain.Finish(p, c)
		if err != nil || string(got) != string(want) {
			t.Fatalf("%d bytes are not the %d of records that came one by one; error %v", len(got), len(want), err)
		}
		if sum := crc32.Checksum(got[atAttributes:], castagnoli); sum != checksumOf(got) {
			t.Fatalf("the header says %08x, the checksum is %08x", checksumOf(got), sum)
		}
	}
}
