package kafka

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// tlsConfig reads the PEM files that the properties name. Nil: no TLS.
func tlsConfig(properties map[string]string) (*tls.Config, error) {
	switch textOf(properties, propSecurityProtocol) {
	case "SSL", "SASL_SSL":
	default:
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, name := range []string{propCA, propTruststore} {
		path, ok := properties[name]
		if !ok {
			continue
		}
		pool, err := loadPool(path)
		if err != nil {
			return nil, fileFault(name, path, err)
		}
		cfg.RootCAs = pool
	}
	if path, ok := properties[propCertificate]; ok {
		pair, err := loadPair(properties)
		if err != nil {
			return nil, fileFault(propCertificate, path, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	if textOf(properties, propEndpointAlgorithm) == "" {
		// the chain is checked all the same, only the name is not
		cfg.InsecureSkipVerify = true
		cfg.VerifyConnection = verifyChain(cfg.RootCAs)
	}
	return cfg, nil
}

func fileFault(property, path string, err error) error {
	var named *PropertyError
	if errors.As(err, &named) {
		return err
	}
	return &PropertyError{Name: property, Reason: fmt.Sprintf("load %s: %v", path, withoutPath(err)), Hint: "want a PEM file on the job manager and on every task manager"}
}

func loadPool(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("it holds no PEM certificate (a JKS or PKCS#12 store has to be exported)")
	}
	return pool, nil
}

func loadPair(properties map[string]string) (tls.Certificate, error) {
	cert, err := os.ReadFile(properties[propCertificate])
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPath := properties[propKey]
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return tls.Certificate{}, fileFault(propKey, keyPath, err)
	}
	if ref, ok := properties[propKeyPassword]; ok {
		password, err := resolveSecret(propKeyPassword, ref)
		if err != nil {
			return tls.Certificate{}, err
		}
		if key, err = decryptKey(key, password); err != nil {
			return tls.Certificate{}, fileFault(propKey, keyPath, err)
		}
	}
	return tls.X509KeyPair(cert, key)
}

// decryptKey opens the old encryption of PEM, the only one that Go's library reads.
func decryptKey(data []byte, password string) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it holds no PEM key")
	}
	//lint:ignore SA1019 it protects a file at rest as well as the user chose to
	if !x509.IsEncryptedPEMBlock(block) {
		return nil, errors.New("it is not encrypted in the way of PKCS#1 PEM (write it with openssl rsa -aes256 -traditional, or without a password)")
	}
	//lint:ignore SA1019 see above
	der, err := x509.DecryptPEMBlock(block, []byte(password))
	if err != nil {
		return nil, fmt.Errorf("decrypt the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
}

func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the broker sent no certificate")
		}
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			opts.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(opts)
		return err
	}
}
