package builtin

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sluice-stream/sluice/operator"
)

// TestRecordErrorIsShort: a cause may quote a value as a whole, which may have megabytes and be no text.
func TestRecordErrorIsShort(t *testing.T) {
	b := &operator.Batch{}
	value := strings.Repeat("\xff!", 1<<20)
	b.Records = []operator.Record{{Value: b.Put([]byte(value)), Key: operator.Null, Headers: operator.Null, StreamKey: operator.Null}}
	text := newRecordError("op", b, 0, "filter", errors.New("invalid time "+value)).Error()
	if len(text) > 4<<10 || !utf8.ValidString(text) || !strings.Contains(text, "invalid time") {
		t.Errorf("%d bytes: %.200q", len(text), text)
	}
}
