package oracle

import (
	"slices"
	"testing"
)

func TestUnnamed(t *testing.T) {
	named := []string{"c/j/out/0/1/0@7:0", "c/j/out/0/1/0@7:1"}
	tests := []struct {
		name    string
		written map[writer]string
		named   []string
		want    []string
	}{
		{"all are named", map[writer]string{{7, 0}: "out/0/0", {7, 1}: "out/0/9"}, named, nil},
		{"another epoch", map[writer]string{{7, 0}: "out/0/0", {7, 2}: "out/0/9"}, named,
			[]string{"transaction: 1", "transaction: out/0/9 was written by producer 7 in epoch 2, whose transaction no completed checkpoint names"}},
		{"no transaction at all", map[writer]string{{-1, -1}: "out/1/4"}, nil,
			[]string{"transaction: 1", "transaction: out/1/4 was written by producer -1 in epoch -1, whose transaction no completed checkpoint names"}},
		{"not a transaction", nil, []string{"c/j"}, []string{"transaction: 1", `transaction: transaction "c/j" does not end in @producerId:epoch`}},
	}
	for _, c := range tests {
		if got := unnamed(c.written, c.named); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
