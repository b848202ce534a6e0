package oracle

import (
	"fmt"
	"strings"
	"testing"
)

func TestLeaks(t *testing.T) {
	before := []Sample{{Process: "jm", Goroutines: 100, FDs: 50, RSSBytes: 100 << 20}, {Process: "tm-1", Goroutines: 200, FDs: 80, RSSBytes: 200 << 20}}
	for _, c := range []struct {
		name  string
		after []Sample
		want  []string
	}{
		{"nobody looked", nil, nil},
		{"the same", before, nil},
		{"within a tenth and the slack", []Sample{{"jm", 125, 70, 206 << 20}, {"tm-1", 1, 1, 1}}, nil},
		{"goroutines", []Sample{{"jm", 126, 50, 1}, before[1]}, []string{"jm holds 126 goroutines, 100 before"}},
		{"descriptors", []Sample{before[0], {"tm-1", 1, 104, 1}}, []string{"tm-1 holds 104 file descriptors, 80 before"}},
		{"memory", []Sample{{"jm", 1, 1, 207 << 20}, before[1]}, []string{"jm holds 217055232 resident bytes"}},
		{"not sampled after", before[:1], []string{"tm-1 has no sample from after"}},
		{"not sampled before", append([]Sample{{Process: "tm-2"}}, before...), []string{"tm-2 has no sample from before"}},
	} {
		checkReasons(t, c.name, Leaks(before, c.after), c.want)
	}
}

// checkReasons wants exactly the reasons, each by a part of it, in order.
func checkReasons(t *testing.T, name string, got, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s:\n  found %s\n  want  %s", name, fmt.Sprintf("%q", got), fmt.Sprintf("%q", want))
	}
}
