package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Config says how to reach a Kafka cluster.
type Config struct {
	// Bootstrap holds host:port of brokers to ask first.
	Bootstrap []string
	// ClientID is told to the brokers; default "sluice".
	ClientID string
	// TLS is nil for plain text. An empty ServerName is taken from the address dialled.
	TLS *tls.Config
	// SASL is off when its Mechanism is empty.
	SASL SASL
	// DialTimeout bounds connecting, TLS, SASL and version negotiation; default 5 s.
	DialTimeout time.Duration
	// CallTimeout bounds every call whose context has no earlier deadline; default 30 s.
	CallTimeout time.Duration
	// IdleTimeout closes unused connections; default 4 min, below the brokers' 10.
	IdleTimeout time.Duration
	// MetadataTTL is how old the answer of Leader may be; default 2 s.
	MetadataTTL time.Duration
	// MaxResponseBytes is the largest answer that is taken; default 100 MiB.
	MaxResponseBytes int
	// BrokerVersion is for brokers that cannot say which calls they speak: Broker082 or Broker090. Empty:
	// they are asked.
	BrokerVersion string
}

// SASL holds credentials. It prints without the password.
type SASL struct {
	Mechanism string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or empty
	Username  string
	Password  string
}

// String hides the password.
func (s SASL) String() string {
	if s.Mechanism == "" {
		return "none"
	}
	return s.Mechanism + " as " + s.Username
}

// GoString hides the password in %#v.
func (s SASL) GoString() string { return s.String() }

const (
	defaultDialTimeout = 5 * time.Second
	defaultCallTimeout = 30 * time.Second
	defaultIdleTimeout = 4 * time.Minute
	defaultMetadataTTL = 2 * time.Second
	defaultMaxResponse = 100 << 20
	maxMetadataRefresh = 10 * time.Second
	transportGoneAfter = 5 * time.Second
)

func (c Config) withDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "sluice"
	}
	orDefault := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	orDefault(&c.DialTimeout, defaultDialTimeout)
	orDefault(&c.CallTimeout, defaultCallTimeout)
	orDefault(&c.IdleTimeout, defaultIdleTimeout)
	orDefault(&c.MetadataTTL, defaultMetadataTTL)
	if c.MaxResponseBytes <= 0 {
		c.MaxResponseBytes = defaultMaxResponse
	}
	c.Bootstrap = slices.Clone(c.Bootstrap)
	return c
}

// check says everything that is wrong with the addresses.
func (c Config) check() error {
	if len(c.Bootstrap) == 0 {
		return errors.New("bootstrap.servers is empty: give at least one host:port")
	}
	var faults []error
	if err := c.checkBrokerVersion(); err != nil {
		faults = append(faults, err)
	}
	for _, a := range c.Bootstrap {
		host, port, err := net.SplitHostPort(a)
		if err == nil && host == "" {
			err = errors.New("the host is missing")
		}
		if n, perr := strconv.ParseUint(port, 10, 16); err == nil && (perr != nil || n == 0) {
			err = fmt.Errorf("port %q is not a number from 1 to 65535", port)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("bootstrap.servers: %q is not host:port: %w", a, err))
		}
	}
	return errors.Join(faults...)
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "":
		return nil, nil
	case "PLAIN":
		return plain.Mechanism{Username: s.Username, Password: s.Password}, nil
	case "SCRAM-SHA-256":
		return scramMechanism(scram.SHA256, s)
	case "SCRAM-SHA-512":
		return scramMechanism(scram.SHA512, s)
	}
	return nil, fmt.Errorf("sasl.mechanism: %q is not known: use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", s.Mechanism)
}

func scramMechanism(a scram.Algorithm, s SASL) (sasl.Mechanism, error) {
	m, err := scram.Mechanism(a, s.Username, s.Password)
	if err != nil {
		// the cause may quote the credentials
		return nil, fmt.Errorf("sasl.username or sasl.password holds characters that %s does not allow", a.Name())
	}
	return m, nil
}
