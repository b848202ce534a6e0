package taskmanager

import (
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// TestReasonsAreShort: whatever a failure says, its report can be sent and received.
func TestReasonsAreShort(t *testing.T) {
	long := "why: " + strings.Repeat("\xff!", 8<<20)
	failed := reportToProto(report{state: Failed, failure: Failure{Class: "user", Message: long}})
	declined := declineToProto(decline{reason: long})
	if n, m := proto.Size(failed), proto.Size(declined); n > 64<<10 || m > 64<<10 {
		t.Errorf("a report has %d bytes, a decline %d", n, m)
	}
	for _, text := range []string{failed.GetFailure().GetMessage(), declined.GetReason()} {
		if !strings.HasPrefix(text, "why: ") || !utf8.ValidString(text) {
			t.Errorf("told: %.40q", text)
		}
	}
	if got := told("short"); got != "short" {
		t.Errorf("told: %q", got)
	}
}
