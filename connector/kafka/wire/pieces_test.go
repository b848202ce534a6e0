package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/sluice-stream/sluice/operator"
)

// numbered is a batch of so many records, compressed with codec.
func numbered(t *testing.T, records int, codec Codec) []byte {
	t.Helper()
	var w Builder
	for i := range records {
		w.AppendRecord(int64(1000+i), fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "value %d", i), nil)
	}
	c, err := NewCompressor(codec, 0)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := w.Finish(NoProducer, c)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// unchecked is a batch whose checksum nobody has looked at.
func unchecked(tb testing.TB, encoded []byte) *RawBatch {
	tb.Helper()
	m := new(memory)
	m.init()
	r := &RawBatch{home: m, unpacker: new(Decompressor), raw: encoded}
	if _, err := parseHeader(r.raw, &r.Header); err != nil {
		tb.Fatal(err)
	}
	r.batch.Packed = r
	return r
}

// TestUnpackPieces: the pieces are the batch.
func TestUnpackPieces(t *testing.T) {
	for _, codec := range []Codec{None, LZ4} {
		for _, records := range []int{1, 99, 100, 101, 1000} {
			encoded := numbered(t, records, codec)
			d := new(Decompressor)
			whole, _, err := ParseBatch(encoded, d)
			if err != nil {
				t.Fatal(err)
			}
			if err := whole.Batch().Open(); err != nil {
				t.Fatal(err)
			}
			r, _, err := ParseBatch(encoded, d)
			if err != nil {
				t.Fatal(err)
			}
			var pieces []operator.Record
			err = r.UnpackPieces(100, func(b *operator.Batch) error {
				if len(b.Records) == 0 || len(b.Records) > 100 || b.Packed != nil || !slices.Equal(b.Origins, whole.Batch().Origins) || string(b.Arena) != string(whole.Batch().Arena) {
					t.Errorf("%v, %d records: a piece has %d records, packed %v, origins %v", codec, records, len(b.Records), b.Packed, b.Origins)
				}
				pieces = append(pieces, b.Records...)
				return nil
			})
			if err != nil || !slices.Equal(pieces, whole.Batch().Records) {
				t.Errorf("%v, %d records: the pieces have %d records, error %v", codec, records, len(pieces), err)
			}
		}
	}
}

// TestUnpackPiecesFails: on the first error, with what was good before it handed on; on a wrong checksum, with nothing.
func TestUnpackPiecesFails(t *testing.T) {
	encoded := numbered(t, 300, None)
	full := errors.New("full")
	handed := 0
	count := func(b *operator.Batch) error { handed += len(b.Records); return nil }
	if err := unchecked(t, encoded).UnpackPieces(100, func(b *operator.Batch) error { return errors.Join(count(b), full) }); !errors.Is(err, full) || handed != 100 {
		t.Errorf("%d records handed on, error %v; want 100 and the receiver's", handed, err)
	}
	damaged := slices.Clone(encoded)
	damaged[len(damaged)-1] = 18 // the last record has nine headers, and none
	handed = 0
	var bad *BatchError
	if err := unchecked(t, damaged).UnpackPieces(100, count); !errors.As(err, &bad) || handed != 0 {
		t.Errorf("wrong checksum: %d records handed on, error %v", handed, err)
	}
	binary.BigEndian.PutUint32(damaged[atCRC:], crc32.Checksum(damaged[atAttributes:], castagnoli))
	if err := unchecked(t, damaged).UnpackPieces(100, count); !errors.As(err, &bad) || handed != 200 {
		t.Errorf("the last record is broken: %d records handed on, error %v; want 200 and a fault of the batch", handed, err)
	}
}

// TestUnpackPiecesOfNone: a batch without records has nothing behind them either, and a control batch is not opened.
func TestUnpackPiecesOfNone(t *testing.T) {
	encoded := numbered(t, 1, None)
	empty := slices.Clone(encoded)
	binary.BigEndian.PutUint32(empty[atCount:], 0)
	control := slices.Clone(encoded)
	control[atAttributes+1] |= attrControl
	for name, damaged := range map[string][]byte{"no records in a batch with a body": empty, "a control batch": control} {
		binary.BigEndian.PutUint32(damaged[atCRC:], crc32.Checksum(damaged[atAttributes:], castagnoli))
		var bad *BatchError
		if err := unchecked(t, damaged).UnpackPieces(100, func(b *operator.Batch) error {
			if len(b.Records) > 0 {
				t.Errorf("%s: %d records", name, len(b.Records))
			}
			return nil
		}); !errors.As(err, &bad) {
			t.Errorf("%s: error %v, want a fault of the batch", name, err)
		}
	}
}
