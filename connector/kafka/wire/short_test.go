package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-stream/sluice/operator"
)

// sameAsAny checks that a record that is read as a short one is read the same as any.
func sameAsAny(t *testing.T, body []byte, at int) (isShort bool) {
	t.Helper()
	var quick, any operator.Record
	delta, end := decodeShort(body, at, &quick)
	if end == 0 {
		return false
	}
	anyDelta, anyEnd, fault := decodeRecord(body, at, &any)
	if fault != "" || delta != anyDelta || end != anyEnd || quick != any {
		t.Fatalf("%x at %d: read as short: %+v delta %d to %d; as any: %+v delta %d to %d, fault %q", body, at, quick, delta, end, any, anyDelta, anyEnd, fault)
	}
	return true
}

func FuzzDecodeShort(f *testing.F) {
	f.Add([]byte{12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, uint16(0))
	f.Fuzz(func(t *testing.T, body []byte, at uint16) {
		if int(at) <= len(body) {
			sameAsAny(t, body, int(at))
		}
	})
}

// TestDecodeShort encodes records around the limits of what short numbers hold, and damages them.
func TestDecodeShort(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int{-1, 0, 1, 57, 63, 64, 100, 8100, 8191, 8192, 70_000}
	pick := func() []byte {
		n := sizes[random.IntN(len(sizes))]
		if n < 0 {
			return nil
		}
		return bytes.Repeat([]byte{byte(random.Uint32())}, n)
	}
	shorts, all := 0, 0
	for range 300 {
		var w Builder
		deltas := []int64{0, 0, 63, -64, 8191, 8192, -8192, 1 << 19, 1 << 20, 1 << 40}
		for range 20 {
			var headers []byte
			if random.IntN(4) == 0 {
				headers = []byte{2, 2, 'h', 2, 'x'}
			}
			w.AppendRecord(1_700_000_000_000+deltas[random.IntN(len(deltas))], pick(), pick(), headers)
		}
		encoded, err := w.Finish(NoProducer, new(Compressor))
		if err != nil {
			t.Fatal(err)
		}
		body := encoded[HeaderSize:]
		for at := 0; at < len(body); all++ {
			if sameAsAny(t, body, at) {
				shorts++
			}
			var r operator.Record
			_, end, fault := decodeRecord(body, at, &r)
			if fault != "" {
				t.Fatal(fault)
			}
			at = end
		}
		for range 200 {
			damaged := slices.Clone(body[:min(len(body), 40)])
			damaged[random.IntN(len(damaged))] ^= 1 << random.IntN(8)
			sameAsAny(t, damaged, random.IntN(8))
		}
	}
	if shorts < all/4 || shorts == all {
		t.Errorf("%d of %d records were short", shorts, all)
	}
}

// TestDecodeShortNumbers puts numbers of one to four bytes into every field; eight bytes in front of the key are too many.
func TestDecodeShortNumbers(t *testing.T) {
	numbers := []int64{0, 1, -1, 63, 64, -64, -65, 8191, 8192, 1<<20 - 1, 1 << 20}
	lengths := []int{-1, 0, 1, 63, 64, 8191, 8192}
	shorts, tooLong := 0, 0
	for _, timestamp := range numbers {
		for _, offset := range numbers {
			for _, key := range lengths {
				for _, value := range lengths {
					record := []byte{0}
					record = binary.AppendVarint(binary.AppendVarint(record, timestamp), offset)
					record = append(binary.AppendVarint(record, int64(key)), make([]byte, max(key, 0))...)
					record = append(binary.AppendVarint(record, int64(value)), make([]byte, max(value, 0)+1)...)
					body := append(binary.AppendVarint(nil, int64(len(record))), record...)
					body = append(body, make([]byte, 20)...) // the next record
					if sameAsAny(t, body, 0) {
						shorts++
						continue
					}
					sizeOf := func(n int64) int { return len(binary.AppendVarint(nil, n)) }
					front := []int{sizeOf(int64(len(record))), sizeOf(timestamp), sizeOf(offset)}
					if slices.Max(front) <= 3 && front[0]+1+front[1]+front[2] <= 8 {
						t.Fatalf("timestamp %d, offset %d, key of %d, value of %d bytes: not read as a short one", timestamp, offset, key, value)
					}
					tooLong++
				}
			}
		}
	}
	if shorts == 0 || tooLong == 0 {
		t.Errorf("%d short ones, %d too long", shorts, tooLong)
	}
}

// TestShortIsUsual: the ordinary record of a large batch is read as a short one.
func TestShortIsUsual(t *testing.T) {
	var w Builder
	for i := range 20_000 {
		w.AppendRecord(1_700_000_000_000+int64(i%5000), fmt.Appendf(nil, "key %d", i), make([]byte, 100), nil)
	}
	encoded, err := w.Finish(NoProducer, new(Compressor))
	if err != nil {
		t.Fatal(err)
	}
	body := encoded[HeaderSize:]
	for at, n := 0, 0; n < 19_999; n++ { // the last one may be too near to the end
		if !sameAsAny(t, body, at) {
			t.Fatalf("record %d is not read as a short one", n)
		}
		var r operator.Record
		_, at = decodeShort(body, at, &r)
	}
}

// TestPutFront: what goes to its place at once is what goes there one by one.
func TestPutFront(t *testing.T) {
	numbers := []uint64{0, 1, 127, 128, 300, 1<<14 - 1, 1 << 14, 1 << 21, 1 << 35}
	for _, size := range numbers {
		for _, timestamp := range numbers {
			for _, offset := range numbers {
				got, want := bytes.Repeat([]byte{0xff}, 32), make([]byte, 32) // a builder uses its memory again
				end := putFront(got, size, timestamp, offset)
				at := putVarint(want, 0, size)
				at = putVarint(want, putVarint(want, at+1, timestamp), offset)
				if !bytes.Equal(got[:end], want[:at]) {
					t.Errorf("%d, %d, %d: %x, want %x", size, timestamp, offset, got[:end], want[:at])
				}
			}
		}
	}
}
