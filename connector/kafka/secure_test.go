package kafka

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

// TestSecureClusters writes and reads through SASL and TLS, set up by properties alone.
func TestSecureClusters(t *testing.T) {
	certificate, key := selfSigned(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_TEST_PASSWORD", "hunter2")
	t.Setenv("SLUICE_TEST_WRONG", "hunter3")
	server := &tls.Config{Certificates: []tls.Certificate{pair}}
	login := func(mechanism, password string, more ...string) []string {
		return append([]string{propSecurityProtocol, "SASL_PLAINTEXT", propMechanism, mechanism, propUsername, "me", propPassword, "${env:" + password + "}"}, more...)
	}
	sasl := func(mechanism string) []kfake.Opt {
		return []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(mechanism, "me", "hunter2")}
	}
	tests := []struct {
		name  string
		opts  []kfake.Opt
		props []string
		want  string // part of the error of the check
	}{
		{"plain", sasl("PLAIN"), login("PLAIN", "SLUICE_TEST_PASSWORD"), ""},
		{"scram 256", sasl("SCRAM-SHA-256"), login("SCRAM-SHA-256", "SLUICE_TEST_PASSWORD"), ""},
		{"scram 512", sasl("SCRAM-SHA-512"), login("SCRAM-SHA-512", "SLUICE_TEST_PASSWORD"), ""},
		{"scram over TLS", append(sasl("SCRAM-SHA-512"), kfake.TLS(server)),
			append(login("SCRAM-SHA-512", "SLUICE_TEST_PASSWORD", propCA, ca, propEndpointAlgorithm, ""), propSecurityProtocol, "SASL_SSL"), ""},
		{"TLS", []kfake.Opt{kfake.TLS(server)}, []string{propSecurityProtocol, "SSL", propCA, ca, propEndpointAlgorithm, ""}, ""},
		{"another host", []kfake.Opt{kfake.TLS(server)}, []string{propSecurityProtocol, "SSL", propCA, ca}, "certificate"},
		{"unknown authority", []kfake.Opt{kfake.TLS(server)}, []string{propSecurityProtocol, "SSL", propEndpointAlgorithm, ""}, "certificate"},
		{"wrong password", sasl("SCRAM-SHA-256"), login("SCRAM-SHA-256", "SLUICE_TEST_WRONG"), "sasl.username and sasl.password"},
		{"no login", sasl("PLAIN"), nil, "source s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := startFake(t, append(test.opts, kfake.SeedTopics(1, "in", "out"))...)
			job := jobOf(f, func(*graph.KafkaSource) {})
			job.Sources[0].Kafka.Properties, job.Sinks[0].Kafka.Properties = properties(f, test.props...), forSink(f, test.props...)
			job.Sinks[0].Kafka.Topic = "in"
			a := newAdmin(t)
			err := a.Check(testContext(t), job)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			positions, _, err := a.StartPositions(testContext(t), job)
			if err != nil {
				t.Fatal(err)
			}
			w := startSink(t, job.Sinks[0].Kafka)
			w.write(batchOf(numbered("in", 0, 5)...))
			w.seal(ident.CheckpointID(1))
			w.sealed(1)
			r := startSource(t, job.Sources[0].Kafka.Properties, positions...)
			r.until("in", 0, 5)
		})
	}
}
