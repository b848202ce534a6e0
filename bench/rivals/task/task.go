// Package task is what the loops of the benchmark that see single records do with each: the same jobs as
// Sluice's, written by hand as a careful author would, with the JSON parser of Go's standard library.
package task

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"strconv"
)

// Task is one job. Of its fields at most one is set; none: every record is copied.
type Task struct {
	Prefix string // copy only values that begin with this
	Word   string // copy only values whose first word, up to a space, is this
	JSON   bool   // keep objects whose status is below 500, shortened to four fields
	Count  bool   // the running count of each key in place of the value
}

// Flags defines a flag for each field.
func (t *Task) Flags(fs *flag.FlagSet) {
	fs.StringVar(&t.Prefix, "prefix", "", "copy only values that begin with this")
	fs.StringVar(&t.Word, "word", "", "copy only values whose first word is this")
	fs.BoolVar(&t.JSON, "json", false, "copy only JSON objects with a status below 500, shortened")
	fs.BoolVar(&t.Count, "count", false, "write the running count of each key; the key says which partition")
}

// Do gives the value to write for a record, and whether one is to be written. The value is the old one, or new
// memory that stays as it is. It is for one goroutine.
type Do func(key, value []byte) (out []byte, keep bool, err error)

// Start begins the job; nil when every record is copied, so that the loop does not pay for it.
func (t *Task) Start() Do {
	switch {
	case t.Prefix != "":
		prefix := []byte(t.Prefix)
		return func(_, value []byte) ([]byte, bool, error) { return value, bytes.HasPrefix(value, prefix), nil }
	case t.Word != "":
		word := []byte(t.Word)
		return func(_, value []byte) ([]byte, bool, error) {
			first, _, _ := bytes.Cut(value, []byte(" "))
			return value, bytes.Equal(first, word), nil
		}
	case t.JSON:
		return shorten
	case t.Count:
		return newCounter().count
	}
	return nil
}

const (
	failedStatus = 500
	lateAfterMs  = 250
)

// long is what is read of an object; the other fields are passed over.
type long struct {
	Status     int    `json:"status"`
	DurationMs int64  `json:"durationMs"`
	Region     string `json:"region"`
	Seq        string `json:"seq"`
}

type short struct {
	DurationMs int64  `json:"durationMs"`
	Late       bool   `json:"late"`
	Region     string `json:"region"`
	Seq        string `json:"seq"`
}

func shorten(_, value []byte) ([]byte, bool, error) {
	var in long
	if err := json.Unmarshal(value, &in); err != nil {
		return nil, false, fmt.Errorf("reading %q: %w", value, err)
	}
	if in.Status >= failedStatus {
		return nil, false, nil
	}
	out, err := json.Marshal(&short{DurationMs: in.DurationMs, Late: in.DurationMs > lateAfterMs, Region: in.Region, Seq: in.Seq})
	return out, true, err
}

// chunkBytes is how much memory is taken at once for the texts of counts.
const chunkBytes = 64 << 10

// counter counts by key. Texts of counts share an allocation.
type counter struct {
	counts map[string]*int64
	chunk  []byte
}

func newCounter() *counter { return &counter{counts: map[string]*int64{}} }

func (c *counter) count(key, _ []byte) ([]byte, bool, error) {
	n := c.counts[string(key)] // looked up without a copy of the key
	if n == nil {
		n = new(int64)
		c.counts[string(key)] = n
	}
	*n++
	const longest = len("-9223372036854775808")
	if cap(c.chunk)-len(c.chunk) < longest {
		c.chunk = make([]byte, 0, chunkBytes)
	}
	from := len(c.chunk)
	c.chunk = strconv.AppendInt(c.chunk, *n, 10)
	return c.chunk[from:len(c.chunk):len(c.chunk)], true, nil
}
