package workload

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"strconv"
)

// separator stands between the fields of a value; the payload does not hold it.
const separator = '|'

// Filtered is the Fan of a record that job C drops.
const Filtered = -1

const filteredText = "x"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Value is what a value of the input says, as text: partition|seq|fan|crc32c|payload.
type Value struct {
	// Partition is where the generator put the record.
	Partition int32
	// Seq counts what the generator wrote to the topic's partition, aborted records included, from 0, or from 2^40 in the
	// compacted topic.
	Seq int64
	// Fan is how many records job C makes of it; Filtered: job C drops it.
	Fan int
	// Payload is printable ASCII.
	Payload []byte
}

// Append appends the text of a value. The checksum is over the other fields.
func (v Value) Append(to []byte) []byte {
	head := v.head()
	sum := v.sum(head)
	to = append(to, head...)
	to = fmt.Appendf(to, "%08x%c", sum, separator)
	return append(to, v.Payload...)
}

func (v Value) head() []byte {
	fan := filteredText
	if v.Fan != Filtered {
		fan = strconv.Itoa(v.Fan)
	}
	return fmt.Appendf(nil, "%d%c%d%c%s%c", v.Partition, separator, v.Seq, separator, fan, separator)
}

func (v Value) sum(head []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, v.Payload)
}

// ParseValue reads the text of a value and checks its checksum.
func ParseValue(text []byte) (Value, error) {
	parts := bytes.SplitN(text, []byte{separator}, 5)
	if len(parts) != 5 {
		return Value{}, fmt.Errorf("value %.60q is not partition|seq|fan|crc32c|payload", text)
	}
	partition, err1 := strconv.ParseInt(string(parts[0]), 10, 32)
	seq, err2 := strconv.ParseInt(string(parts[1]), 10, 64)
	fan, err3 := Filtered, error(nil)
	if string(parts[2]) != filteredText {
		fan, err3 = strconv.Atoi(string(parts[2]))
	}
	sum, err4 := strconv.ParseUint(string(parts[3]), 16, 32)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || fan < Filtered {
		return Value{}, fmt.Errorf("value %.60q is not partition|seq|fan|crc32c|payload", text)
	}
	v := Value{Partition: int32(partition), Seq: seq, Fan: fan, Payload: parts[4]}
	if got := v.sum(v.head()); got != uint32(sum) {
		return Value{}, fmt.Errorf("value %.60q has checksum %08x, says %08x", text, got, sum)
	}
	return v, nil
}
