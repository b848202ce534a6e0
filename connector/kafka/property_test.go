package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// TestProperties has a transcript per theme: the properties, and what is said about them.
func TestProperties(t *testing.T) {
	datadriven.Walk(t, "testdata/properties", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			kind, ok := map[string]graph.Kind{"source": graph.KindSource, "sink": graph.KindSink}[d.Cmd]
			if !ok {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			props := map[string]string{}
			for _, line := range strings.Split(d.Input, "\n") {
				name, value, ok := strings.Cut(line, "=")
				if !ok {
					d.Fatalf(t, "line %q", line)
				}
				props[name] = value
			}
			if !d.HasArg("bare") {
				props[propBootstrap] = "kafka:9092"
			}
			var out strings.Builder
			for _, err := range CheckProperties(kind, props) {
				var named interface{ Property() string }
				if !errors.As(err, &named) || !strings.HasPrefix(err.Error(), named.Property()+": ") {
					t.Errorf("error %v does not begin with its property", err)
				}
				fmt.Fprintln(&out, err)
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("error %v shows a secret", err)
				}
			}
			if out.Len() == 0 {
				return "ok\n"
			}
			return out.String()
		})
	})
}

// TestPropertyTable: names are unique, defaults are allowed values, and all is documented.
func TestPropertyTable(t *testing.T) {
	table := Properties()
	seen := map[string]bool{}
	for i := range table {
		p := &table[i]
		if seen[p.Name] || p.Doc == "" || p.Type.String() == "unknown type" || !p.Source && !p.Sink {
			t.Errorf("property %+v", p)
		}
		seen[p.Name] = true
		if p.Default != "" {
			if err := p.check(p.Default); err != nil {
				t.Errorf("the default of %s: %v", p.Name, err)
			}
		}
		if _, ok := refusal(p.Name); ok {
			t.Errorf("%s is allowed and refused", p.Name)
		}
	}
	if !slices.IsSortedFunc(table, func(a, b Property) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the table is not sorted")
	}
	table[0].Name = "changed"
	if Properties()[0].Name == "changed" {
		t.Error("the table can be changed")
	}
}

func TestResolve(t *testing.T) {
	c, err := Resolve(graph.KindSource, map[string]string{propBootstrap: " a:1, b:2 ,", propGroup: "g", propIsolation: "read_uncommitted", propFetchMaxWait: "7", propReset: "none"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Servers() != "a:1,b:2" || c.GroupID != "g" || c.Isolation != wire.ReadUncommitted || c.Fetch.MaxWait != 7*time.Millisecond || c.Reset != "none" || !c.ResetGiven {
		t.Errorf("config %+v", c)
	}
	if c.Fetch.MaxBytes != 8<<20 || c.RequestTimeout != 30*time.Second || c.Retry != (Backoff{100 * time.Millisecond, time.Second}) {
		t.Errorf("defaults %+v", c)
	}
	s, err := Resolve(graph.KindSink, map[string]string{propBootstrap: "a:1", propCompression: "zstd", propZstdLevel: "11"})
	if err != nil || s.Produce.Codec != wire.Zstd || s.Produce.Level != 11 || !s.Produce.CodecGiven || s.Isolation != wire.ReadCommitted {
		t.Errorf("config %+v, %v", s, err)
	}
	if _, err := Resolve(graph.KindSink, map[string]string{"linger": "1"}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("error %v, want two lines", err)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{100 * time.Millisecond, time.Second}
	for n, want := range map[int]time.Duration{1: 100, 2: 200, 4: 800, 5: 1000, 1 << 30: 1000} {
		if got := b.pause(n); got != want*time.Millisecond {
			t.Errorf("pause %d is %v", n, got)
		}
	}
}

// TestSecrets: references are resolved where a connection is made, and nothing that can be printed holds
// what they stand for.
func TestSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_TEST_PASSWORD", "hunter2")
	t.Setenv("SLUICE_TEST_JAAS", `org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="hunter2";`)
	base := func(pairs ...string) map[string]string {
		p := map[string]string{propBootstrap: "a:1", propSecurityProtocol: "SASL_PLAINTEXT", propMechanism: "PLAIN"}
		for i := 0; i < len(pairs); i += 2 {
			p[pairs[i]] = pairs[i+1]
		}
		return p
	}
	tests := map[string]struct {
		props map[string]string
		want  string // of the error, "" for none
	}{
		"environment": {base(propUsername, "me", propPassword, "${env:SLUICE_TEST_PASSWORD}"), ""},
		"file":        {base(propUsername, "me", propPassword, "${file:"+file+"}"), ""},
		"jaas":        {base(propJAAS, `org.apache.kafka.common.security.plain.PlainLoginModule required username="me" password="${env:SLUICE_TEST_PASSWORD}";`), ""},
		"whole jaas":  {base(propJAAS, "${env:SLUICE_TEST_JAAS}"), ""},
		"not set":     {base(propUsername, "me", propPassword, "${env:SLUICE_TEST_NONE}"), "sasl.password: the environment variable SLUICE_TEST_NONE is not set in this process; the job manager and every task manager need it"},
		"no file":     {base(propUsername, "me", propPassword, "${file:/nowhere/x}"), "sasl.password: read the file /nowhere/x: no such file or directory; the job manager and every task manager need it"},
		"other module": {base(propMechanism, "SCRAM-SHA-256", propJAAS, "${env:SLUICE_TEST_JAAS}"),
			"sasl.jaas.config: the login module is not the one of SCRAM-SHA-256; want org.apache.kafka.common.security.scram.ScramLoginModule"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := Resolve(graph.KindSource, test.props)
			if err != nil {
				t.Fatal(err)
			}
			w, err := c.wireConfig()
			for _, text := range []string{fmt.Sprintf("%v %+v %#v", c, c, c), c.connectionKey(), fmt.Sprint(err), fmt.Sprintf("%v %+v", w.SASL, w)} {
				if strings.Contains(text, "hunter2") {
					t.Errorf("%s shows the secret", text)
				}
			}
			if test.want != "" {
				if err == nil || err.Error() != test.want {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || w.SASL.Username != "me" || w.SASL.Password != "hunter2" {
				t.Errorf("%v, %v", w.SASL, err)
			}
		})
	}
}

func TestJAAS(t *testing.T) {
	const plain = "org.apache.kafka.common.security.plain.PlainLoginModule"
	good := map[string]login{
		plain + ` required username="a" password="b";`:                         {plain, "a", "b"},
		"  " + plain + " required\n  password=\"b\\\"\\\\\" username=\"a\" ; ": {plain, "a", `b"\`},
		plain + ` required username = "a=;" password="";`:                      {},
		plain + ` required username="a" password="b"`:                          {},
		plain + ` required username="a" username="b" password="c";`:            {},
		plain + ` required username="a" password="b" serviceName="kafka";`:     {},
		plain + ` required username=a password=b;`:                             {},
		plain + ` optional username="a" password="b";`:                         {},
		plain + ` required username="a" password="b;`:                          {},
		plain: {},
		"":    {},
		`com.sun.security.auth.module.JndiLoginModule required username="a" password="b";`: {},
	}
	for text, want := range good {
		l, err := parseJAAS(text)
		if (err != nil) != (want == login{}) || l != want {
			t.Errorf("%s gives %v, %v", text, l, err)
		}
		if err != nil && strings.Contains(err.Error(), `"b`) {
			t.Errorf("%v shows the text", err)
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certificate, key := selfSigned(t)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	block, _ := pem.Decode(key)
	//lint:ignore SA1019 it is what users have
	locked, err := x509.EncryptPEMBlock(rand.Reader, block.Type, block.Bytes, []byte("hunter2"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SLUICE_TEST_KEY", "hunter2")
	cert, plain, encrypted, text := write("cert.pem", certificate), write("key.pem", key), write("locked.pem", pem.EncodeToMemory(locked)), write("text", []byte("hello"))
	tests := []struct {
		name  string
		props []string
		want  string
	}{
		{"defaults", nil, ""},
		{"authority", []string{propCA, cert}, ""},
		{"trust store", []string{propTruststore, cert, propTruststoreType, "PEM"}, ""},
		{"pair", []string{propCertificate, cert, propKey, plain}, ""},
		{"locked pair", []string{propCertificate, cert, propKey, encrypted, propKeyPassword, "${env:SLUICE_TEST_KEY}"}, ""},
		{"any host", []string{propEndpointAlgorithm, "", propCA, cert}, ""},
		{"no certificate in it", []string{propCA, text}, "ssl.ca.location: load " + text + ": it holds no PEM certificate"},
		{"no file", []string{propTruststore, dir + "/none"}, "ssl.truststore.location: load " + dir + "/none: no such file or directory; want a PEM file"},
		{"no key file", []string{propCertificate, cert, propKey, dir + "/none"}, "ssl.key.location: load " + dir + "/none: no such file"},
		{"key not locked", []string{propCertificate, cert, propKey, plain, propKeyPassword, "${env:SLUICE_TEST_KEY}"}, "ssl.key.location: load " + plain + ": it is not encrypted in the way of PKCS#1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			props := map[string]string{propBootstrap: "a:1", propSecurityProtocol: "SSL"}
			for i := 0; i < len(test.props); i += 2 {
				props[test.props[i]] = test.props[i+1]
			}
			c, err := Resolve(graph.KindSink, props)
			if err != nil {
				t.Fatal(err)
			}
			w, err := c.wireConfig()
			if test.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.want) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || w.TLS == nil {
				t.Fatalf("%v, %v", w.TLS, err)
			}
			if _, pair := props[propKey]; pair != (len(w.TLS.Certificates) == 1) {
				t.Errorf("%d certificates", len(w.TLS.Certificates))
			}
			if anyHost := test.name == "any host"; anyHost != w.TLS.InsecureSkipVerify || anyHost != (w.TLS.VerifyConnection != nil) {
				t.Error("the check of the host")
			}
		})
	}
}

func selfSigned(t testing.TB) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kafka"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"kafka.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}
