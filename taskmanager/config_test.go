package taskmanager

import (
	"net"
	"testing"

	"google.golang.org/grpc/credentials/insecure"
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
		cfg := Config{DataListen: listen, ServerTLS: insecure.NewCredentials()}
		if got := cfg.advertised(is); got != want {
			t.Errorf("%q: %s, want %s", listen, got, want)
		}
		cfg.ServerTLS = nil
		if got := cfg.advertised(is); got != "10.0.0.2:6124" {
			t.Errorf("%q without TLS: %s", listen, got)
		}
		cfg.DataAdvertise = "outside:1"
		if got := cfg.advertised(is); got != "outside:1" {
			t.Errorf("%q, advertised: %s", listen, got)
		}
	}
}
