package kafkaenv

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Missing says what a kind needs and this machine does not have; empty when it can be started.
func Missing(kind Kind) string {
	if kind == Fake {
		return ""
	}
	var missing []string
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	return strings.Join(missing, " and ")
}

// Require skips the test, loudly, when this machine cannot start the kind, and fails it when CI=true.
func Require(tb testing.TB, kind Kind) {
	tb.Helper()
	missing := Missing(kind)
	if missing == "" {
		return
	}
	text := fmt.Sprintf("NOT TESTED on %s: %s not found in PATH (install a JDK 17 or newer and Maven)", kind, missing)
	if os.Getenv("CI") == "true" {
		tb.Fatal(text)
	}
	fmt.Fprintf(os.Stderr, "\n*** %s: %s ***\n\n", tb.Name(), text)
	tb.Skip(text)
}
