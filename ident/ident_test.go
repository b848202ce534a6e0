package ident

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for name, want := range map[string]bool{
		"orders": true, "A-z.0_9": true, "..a": true, "-": true, strings.Repeat("n", 128): true,
		"": false, ".": false, "..": false, "a/b": false, "a b": false, "é": false, "a\n": false, "a\x00": false, strings.Repeat("n", 129): false,
	} {
		if err := CheckName(name); (err == nil) != want || err != nil && !errors.Is(err, ErrName) {
			t.Errorf("%q: %v, want it to pass: %t", name, err, want)
		}
	}
}
