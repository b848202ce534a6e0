package expression

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestValidText puts good and bad characters at every place of ASCII texts of all lengths around its steps.
func TestValidText(t *testing.T) {
	for length := range 100 {
		text := strings.Repeat("a", length)
		for at := range length + 1 {
			for _, inside := range []string{"", "ä", "世", "😀", "\xff", "\xe4\xb8", "\x80", "\xc3", "\xed\xa0\x80"} {
				p := []byte(text[:at] + inside + text[at:])
				if got, want := validText(p), utf8.Valid(p); got != want {
					t.Fatalf("%q: %v, want %v", p, got, want)
				}
			}
		}
	}
}

func FuzzValidText(f *testing.F) {
	f.Add([]byte("plain text, longer than one step of thirty-two bytes, ä and 世"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if got, want := validText(p), utf8.Valid(p); got != want {
			t.Errorf("%q: %v, want %v", p, got, want)
		}
	})
}
