package kafkaenv

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// verdict stands in for a test and keeps what Require does to it.
type verdict struct {
	testing.TB
	skipped, failed string
}

func (v *verdict) Name() string { return "TestThatNeedsKafka" }

func (v *verdict) Skip(args ...any) {
	v.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

func (v *verdict) Fatal(args ...any) {
	v.failed = fmt.Sprint(args...)
	runtime.Goexit()
}

// A machine without Java skips, and says so; continuous integration must not be green that way.
func TestWithoutJava(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, ci := range []string{"", "true"} {
		t.Setenv("CI", ci)
		for _, kind := range Kinds() {
			v := &verdict{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				Require(v, kind)
			}()
			<-done
			told := v.skipped
			if ci == "true" {
				told = v.failed
			}
			switch {
			case kind == Fake && v.skipped+v.failed != "":
				t.Errorf("CI=%q: kfake needs no Java, but: %s%s", ci, v.skipped, v.failed)
			case kind != Fake && !strings.Contains(told, "java and mvn"):
				t.Errorf("CI=%q, %s: skipped %q, failed %q", ci, kind, v.skipped, v.failed)
			}
		}
	}
}
