package kafka

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// A password or a certificate authority that changes in its file is used from the next call on, by the job manager
// too, which lives for months; until then all users of a login share its connections.
func TestChangedCredentialsAreUsed(t *testing.T) {
	password, authority := filepath.Join(t.TempDir(), "password"), filepath.Join(t.TempDir(), "authority.pem")
	certificate, _ := selfSigned(t)
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(password, []byte("first"))
	write(authority, certificate)
	cfg, err := Resolve(graph.KindSource, map[string]string{
		"bootstrap.servers": "127.0.0.1:1", "security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "alice",
		"sasl.password": "${file:" + password + "}", "ssl.ca.location": authority,
	})
	if err != nil {
		t.Fatal(err)
	}
	admin := NewAdmin(nil)
	defer func() {
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	}()
	acquire := func() *wire.Cluster {
		t.Helper()
		cluster, release, err := admin.acquire(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		release()
		return cluster
	}
	first := acquire()
	if acquire() != first {
		t.Error("connections of the same login are not shared")
	}
	write(password, []byte("second"))
	second := acquire()
	if second == first {
		t.Error("the old password is used on")
	}
	write(authority, append(certificate, '\n'))
	if acquire() == second {
		t.Error("the old certificate authority is used on")
	}
	if open := len(admin.connections.open); open != 1 {
		t.Errorf("%d clusters are open: what has old credentials logs in with them again and again", open)
	}
	if err := os.Remove(password); err != nil {
		t.Fatal(err)
	}
	if _, _, err := admin.acquire(&cfg); err == nil {
		t.Error("connections without a password are given")
	}
}
