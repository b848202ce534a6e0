package rig

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// User is who logs in at the secured listeners. It may do what it is allowed; whoever comes without a name, as
// generator, oracle and the job of the workload do, may do everything.
const User = "victim"

const (
	keystore = "listener.name.secured.ssl.keystore.location"
	// scramIterations is the least that Kafka takes.
	scramIterations = 4096
)

// secured is the second listener of every broker, with SASL over TLS.
type secured struct {
	dir       string
	led       []string
	authority *x509.Certificate
	key       *ecdsa.PrivateKey // of authority
	issued    int64
}

// newSecured makes a certificate authority in a directory of its own.
func newSecured() (*secured, error) {
	dir, err := os.MkdirTemp("", "sluice-chaos-secured-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for certificates: %w", err)
	}
	s := &secured{dir: dir}
	if err := s.makeAuthority(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a certificate authority: %w", err), os.RemoveAll(dir))
	}
	return s, nil
}

func (s *secured) makeAuthority() (err error) {
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	s.authority = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "chaos authority"}, NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, s.authority, s.authority, s.key.Public(), s.key)
	if err != nil {
		return err
	}
	return os.WriteFile(s.authorityFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

func (s *secured) authorityFile() string { return filepath.Join(s.dir, "authority.pem") }
func (s *secured) passwordFile() string  { return filepath.Join(s.dir, "password") }

// issue writes a file with a new key and a certificate of 127.0.0.1, which is good until then.
func (s *secured) issue(until time.Time) (path string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("issuing a certificate: %w", err)
	}
	s.issued++
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1 + s.issued), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err1 := x509.CreateCertificate(rand.Reader, certificate, s.authority, key.Public(), s.key)
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("issuing a certificate: %w", err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	path = filepath.Join(s.dir, fmt.Sprintf("broker-%d.pem", s.issued))
	return path, os.WriteFile(path, text, 0o600)
}

// SecuredName is the name of the secured listener of a broker, counted from 0, on the edges of the mesh.
func SecuredName(node int) string { return BrokerName(node) + "-secured" }

// listen adds the secured listener, behind a proxy, to the properties of a broker.
func (g *Ground) listen(node int, properties map[string]string) error {
	port, err := process.FreePort()
	if err != nil {
		return err
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	certificate, err := g.secured.issue(time.Now().Add(24 * time.Hour))
	if err != nil {
		return err
	}
	listens := fmt.Sprintf("127.0.0.1:%d", port)
	properties["listeners"] += ",SECURED://" + listens
	properties["advertised.listeners"] += ",SECURED://" + address
	properties["listener.security.protocol.map"] += ",SECURED:SASL_SSL"
	properties[keystore] = certificate
	properties["listener.name.secured.ssl.keystore.type"] = "PEM"
	properties["listener.name.secured.sasl.enabled.mechanisms"] = "SCRAM-SHA-256"
	properties["listener.name.secured.scram-sha-256.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	properties["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
	properties["super.users"] = "User:ANONYMOUS"
	g.secured.led = append(g.secured.led, address)
	g.Mesh.Add(SecuredName(node), address, listens)
	return g.Mesh.Up(SecuredName(node))
}

// Secured is the bootstrap list of the secured listeners, through the proxies.
func (g *Ground) Secured() string { return strings.Join(g.secured.led, ",") }

// Login is the properties with which User gets in.
func (g *Ground) Login() map[string]string {
	return map[string]string{
		"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": User,
		"sasl.password": "${file:" + g.secured.passwordFile() + "}", "ssl.ca.location": g.secured.authorityFile(),
	}
}

// SetPassword makes the brokers take this password of User, and no other. With tell it is also what Login gives.
func (g *Ground) SetPassword(ctx context.Context, password string, tell bool) error {
	admin, err := g.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	altered, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: User, Mechanism: kadm.ScramSha256, Iterations: scramIterations, Password: password}})
	if err = errors.Join(err, altered.Error()); err != nil {
		return fmt.Errorf("setting the password of %s: %w", User, err)
	}
	if !tell {
		return nil
	}
	return os.WriteFile(g.secured.passwordFile(), []byte(password), 0o600)
}

// SetCertificates gives every broker a new certificate, which is good until then.
func (g *Ground) SetCertificates(ctx context.Context, until time.Time) error {
	admin, err := g.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	for node := range int32(Brokers) {
		path, err := g.secured.issue(until)
		if err != nil {
			return err
		}
		responses, err := admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: keystore, Value: &path}}, node+1)
		for _, r := range responses {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			return fmt.Errorf("giving broker %d the certificate %s: %w", node, path, err)
		}
	}
	return nil
}

// Grant lets User do something with a topic; Revoke takes that back.
func (g *Ground) Grant(ctx context.Context, topic string, operations ...kadm.ACLOperation) error {
	return g.allow(ctx, kadm.NewACLs().Topics(topic).Allow("User:"+User).AllowHosts("*").Operations(operations...))
}

// GrantTransactions lets User use every transactional id.
func (g *Ground) GrantTransactions(ctx context.Context) error {
	return g.allow(ctx, kadm.NewACLs().TransactionalIDs("*").Allow("User:"+User).AllowHosts("*").Operations(kadm.OpDescribe, kadm.OpWrite))
}

func (g *Ground) allow(ctx context.Context, rights *kadm.ACLBuilder) error {
	admin, err := g.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	created, err := admin.CreateACLs(ctx, rights.ResourcePatternType(kadm.ACLPatternLiteral))
	for _, c := range created {
		err = errors.Join(err, c.Err)
	}
	if err != nil {
		return fmt.Errorf("granting rights to %s: %w", User, err)
	}
	return nil
}

// Revoke ends a Grant.
func (g *Ground) Revoke(ctx context.Context, topic string, operations ...kadm.ACLOperation) error {
	admin, err := g.Admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	rights := kadm.NewACLs().Topics(topic).Allow("User:" + User).AllowHosts("*").Operations(operations...).ResourcePatternType(kadm.ACLPatternLiteral)
	deleted, err := admin.DeleteACLs(ctx, rights)
	count := 0
	for _, d := range deleted {
		err = errors.Join(err, d.Err)
		count += len(d.Deleted)
	}
	if err == nil && count != len(operations) {
		err = fmt.Errorf("%d rights were there, want %d", count, len(operations))
	}
	if err != nil {
		return fmt.Errorf("revoking rights of %s: %w", User, err)
	}
	return nil
}
