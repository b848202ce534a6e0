package taskmanager

import (
	"net"
	"testing"
)

func TestAdvertised(t *testing.T) {
	is := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 6124}
	for listen, want := range map[string]string{
		"tm-1.example:6124": "tm-1.example:6124",
		"tm-1.example:0":    "tm-1.example:6124",
		"10.0.0.2:0":        "10.0.0.2:6124",
		"[fd00::1]:0":       "10.0.0.2:6124",
		":0":                "10.0.0.2:6124",
		"":                  "10.0.0.2:6124",
	} {
		if got := advertised(listen, is); got != want {
			t.Errorf("%q: %s, want %s", listen, got, want)
		}
	}
}
