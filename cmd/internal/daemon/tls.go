package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
)

// TLSFiles are the PEM files of mutual TLS. All three are given, or none.
type TLSFiles struct {
	Cert, Key, CA string
}

// AddFlags defines the three flags.
func (f *TLSFiles) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&f.Cert, "tls-cert", "", "certificate of this process, PEM `FILE`; turns mutual TLS on, with --tls-key and --tls-ca")
	fs.StringVar(&f.Key, "tls-key", "", "private key of the certificate, PEM `FILE`")
	fs.StringVar(&f.CA, "tls-ca", "", "authorities that sign the certificates of the cluster and its clients, PEM `FILE`")
}

func (f *TLSFiles) missing() string {
	var names []string
	for _, file := range [][2]string{{"--tls-cert", f.Cert}, {"--tls-key", f.Key}, {"--tls-ca", f.CA}} {
		if file[1] == "" {
			names = append(names, file[0])
		}
	}
	return strings.Join(names, " and ") + " missing"
}

// Load returns nil credentials when TLS is off.
func (f *TLSFiles) Load() (server, client credentials.TransportCredentials, err error) {
	if f.Cert == "" && f.Key == "" && f.CA == "" {
		return nil, nil, nil
	}
	if f.Cert == "" || f.Key == "" || f.CA == "" {
		return nil, nil, fmt.Errorf("%w: --tls-cert, --tls-key and --tls-ca belong together; %s", ErrUsage, f.missing())
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: load certificate %s with key %s: %w", ErrUsage, f.Cert, f.Key, err)
	}
	if now := time.Now(); now.After(cert.Leaf.NotAfter) || now.Before(cert.Leaf.NotBefore) {
		err := fmt.Errorf("certificate %s is valid from %s to %s only; this machine's clock says %s", f.Cert,
			cert.Leaf.NotBefore.Format(time.RFC3339), cert.Leaf.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		if now.Before(cert.Leaf.NotBefore) { // the clock may not be set yet: a later start may find it right
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%w: %w", ErrUsage, err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: read authorities: %w", ErrUsage, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("%w: %s holds no PEM certificate", ErrUsage, f.CA)
	}
	base := tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
	srv, cli := base.Clone(), base.Clone()
	srv.ClientCAs, srv.ClientAuth = roots, tls.RequireAndVerifyClientCert
	cli.RootCAs = roots
	return credentials.NewTLS(srv), credentials.NewTLS(cli), nil
}
