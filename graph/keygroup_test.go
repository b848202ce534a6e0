package graph

import (
	"fmt"
	"testing"
)

// TestKeyGroupIsFrozen: the values are part of the format of checkpoints.
func TestKeyGroupIsFrozen(t *testing.T) {
	tests := []struct {
		key  string
		want [3]int // of 1, 128 and 32768 groups
	}{
		{"", [3]int{0, 127, 11903}}, {"a", [3]int{0, 113, 28529}}, {"b", [3]int{0, 39, 20519}},
		{"user-1", [3]int{0, 86, 3542}}, {"user-2", [3]int{0, 127, 14975}}, {"\x00\xff", [3]int{0, 96, 2528}},
	}
	for _, test := range tests {
		var got [3]int
		for i, groups := range []int{1, 128, 32768} {
			got[i] = KeyGroup([]byte(test.key), groups)
		}
		if got != test.want {
			t.Errorf("key groups of %q are %v, want %v", test.key, got, test.want)
		}
	}
}

// TestKeyGroupsSpread: numbered keys spread over the groups as dice would; 100 a group on average.
func TestKeyGroupsSpread(t *testing.T) {
	const groups = 128
	for _, pattern := range []string{"%d", "user-%d", "%08d", "%d-suffix-that-stays"} {
		var count [groups]int
		for i := range 100 * groups {
			count[KeyGroup(fmt.Appendf(nil, pattern, i), groups)]++
		}
		for g, n := range count {
			if n < 50 || n > 150 {
				t.Errorf("%q: group %d has %d keys, want about 100", pattern, g, n)
			}
		}
	}
}

// TestKeyGroupRanges compares the ranges with the slow definition: group g belongs to the subtask
// floor(g × parallelism ÷ groups).
func TestKeyGroupRanges(t *testing.T) {
	for _, groups := range []int{1, 2, 3, 7, 127, 128, 1000, MaxKeyGroups} {
		step := max(1, groups/150)
		for parallelism := 1; parallelism <= groups; parallelism += step {
			next := 0
			for subtask := range parallelism {
				first, last := KeyGroupsOf(subtask, parallelism, groups)
				if first != next || last < first {
					t.Fatalf("subtask %d of %d owns %d to %d of %d groups, want from %d", subtask, parallelism, first, last, groups, next)
				}
				for g := first; g <= last; g++ {
					if owner := g * parallelism / groups; owner != subtask || SubtaskOfKeyGroup(g, parallelism, groups) != subtask {
						t.Fatalf("group %d of %d at parallelism %d is %d's, want %d's", g, groups, parallelism, subtask, owner)
					}
				}
				next = last + 1
			}
			if next != groups {
				t.Fatalf("parallelism %d owns %d of %d groups", parallelism, next, groups)
			}
		}
	}
}
