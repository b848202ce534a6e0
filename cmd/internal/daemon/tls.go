package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"
)

// TLSFiles are the PEM files of mutual TLS. All three are given, or none.
type TLSFiles struct {
	Cert, Key, CA string
}

// AddFlags defines the three flags.
func (f *TLSFiles) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&f.Cert, "tls-cert", "", "certificate of this process, PEM; turns mutual TLS on, with --tls-key and --tls-ca")
	fs.StringVar(&f.Key, "tls-key", "", "private key of the certificate, PEM")
	fs.StringVar(&f.CA, "tls-ca", "", "authorities that sign the certificates of the cluster and its clients, PEM")
}

// Load returns nil credentials when TLS is off.
func (f *TLSFiles) Load() (server, client credentials.TransportCredentials, err error) {
	if f.Cert == "" && f.Key == "" && f.CA == "" {
		return nil, nil, nil
	}
	if f.Cert == "" || f.Key == "" || f.CA == "" {
		return nil, nil, fmt.Errorf("%w: --tls-cert, --tls-key and --tls-ca belong together", ErrUsage)
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: load certificate %s with key %s: %w", ErrUsage, f.Cert, f.Key, err)
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
