package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
)

// Config is what properties mean, typed and with defaults. Secrets are not in it.
type Config struct {
	// GroupID is empty for none.
	GroupID string
	// Rack is the rack of the reader, perhaps a reference that means something on each task manager; empty: none.
	Rack string
	// Reset is earliest, latest or none; ResetGiven says that the job says so itself.
	Reset      string
	ResetGiven bool
	Isolation  wire.Isolation
	Fetch      FetchConfig
	Produce    ProduceConfig
	// RequestTimeout bounds calls.
	RequestTimeout time.Duration
	// Legacy: the brokers are as old as broker.version says.
	Legacy bool
	// Retry paces what is asked again after an error answer, Reconnect after no answer.
	Retry, Reconnect Backoff

	connection map[string]string // as given, for Connections
	zooKeeper  map[string]string // as given, for zooKeepers
}

// FetchConfig is how a source fetches.
type FetchConfig struct {
	MinBytes, MaxBytes, PartitionMaxBytes int
	MaxWait                               time.Duration
}

// ProduceConfig is how a sink writes.
type ProduceConfig struct {
	Linger          time.Duration
	BatchBytes      int
	MaxRecordBytes  int
	BufferBytes     int64
	DeliveryTimeout time.Duration
	// Codec is the compression; CodecGiven says that the job names it. Level 0 is the codec's own.
	Codec      wire.Codec
	CodecGiven bool
	Level      int
	// TransactionTimeout is for exactly-once.
	TransactionTimeout time.Duration
}

// Backoff is a pause that doubles from First up to Max.
type Backoff struct{ First, Max time.Duration }

// pause is how long to wait before try n, from 1.
func (b Backoff) pause(n int) time.Duration {
	d := b.First
	for i := 1; i < n && d < b.Max; i++ {
		d *= 2
	}
	return min(d, b.Max)
}

// Resolve checks properties and says what they mean. Secrets stay references until a connection is made.
func Resolve(kind graph.Kind, properties map[string]string) (Config, error) {
	if found := CheckProperties(kind, properties); len(found) > 0 {
		return Config{}, errors.Join(found...)
	}
	millis := func(name string) time.Duration { return time.Duration(numberOf(properties, name)) * time.Millisecond }
	size := func(name string) int { return int(numberOf(properties, name)) }
	c := Config{
		GroupID:        properties[propGroup],
		Rack:           properties[propRack],
		Reset:          textOf(properties, propReset),
		Isolation:      wire.ReadCommitted,
		RequestTimeout: millis(propRequestTimeout),
		Retry:          Backoff{millis(propRetryBackoff), millis(propRetryBackoffMax)},
		Reconnect:      Backoff{millis(propReconnectBackoff), millis(propReconnectBackoffMax)},
		Fetch: FetchConfig{
			MinBytes: size(propFetchMinBytes), MaxBytes: size(propFetchMaxBytes), PartitionMaxBytes: size(propPartitionFetchBytes), MaxWait: millis(propFetchMaxWait),
		},
		Produce: ProduceConfig{
			Linger: millis(propLinger), BatchBytes: size(propBatchSize), MaxRecordBytes: size(propMaxRequest), BufferBytes: numberOf(properties, propBufferMemory),
			DeliveryTimeout: millis(propDeliveryTimeout), TransactionTimeout: millis(propTransactionTimeout),
		},
		connection: map[string]string{}, zooKeeper: zooKeeperOf(properties),
	}
	_, c.ResetGiven = properties[propReset]
	if textOf(properties, propIsolation) == "read_uncommitted" {
		c.Isolation = wire.ReadUncommitted
	}
	if name, ok := properties[propCompression]; ok {
		var err error
		if c.Produce.Codec, err = wire.ParseCodec(name); err != nil {
			return Config{}, &PropertyError{Name: propCompression, Reason: err.Error()}
		}
		c.Produce.CodecGiven = true
		for codec, level := range map[wire.Codec]string{wire.Gzip: propGzipLevel, wire.LZ4: propLZ4Level, wire.Zstd: propZstdLevel} {
			if codec == c.Produce.Codec {
				c.Produce.Level = size(level)
			}
		}
	}
	for _, table := range [][]Property{connectionProperties, securityProperties} {
		for i := range table {
			if v, ok := properties[table[i].Name]; ok {
				c.connection[table[i].Name] = v
			}
		}
	}
	_, c.Legacy = properties[propBrokerVersion]
	return c, nil
}

// Servers are the bootstrap servers, for messages.
func (c *Config) Servers() string {
	return strings.Join(splitServers(c.connection[propBootstrap]), ",")
}

// connectionKey tells connections apart that cannot be shared. It holds references, not secrets, and a digest of what
// they stand for now: a password that was changed is used from the next call on.
func (c *Config) connectionKey() string {
	return fmt.Sprintf("%s%x", c.connectionPlace(), c.credentialsDigest())
}

// connectionPlace is connectionKey without what the references stand for.
func (c *Config) connectionPlace() string {
	var b strings.Builder
	for _, table := range [][]Property{connectionProperties, securityProperties} {
		for i := range table {
			if v, ok := c.connection[table[i].Name]; ok {
				fmt.Fprintf(&b, "%s=%q\n", table[i].Name, v)
			}
		}
	}
	return b.String()
}

// wireConfig reads the secrets and files, and says how to connect.
func (c *Config) wireConfig() (wire.Config, error) {
	p := c.connection
	millis := func(name string) time.Duration { return time.Duration(numberOf(p, name)) * time.Millisecond }
	w := wire.Config{
		Bootstrap: splitServers(p[propBootstrap]), ClientID: textOf(p, propClientID), DialTimeout: millis(propConnectionTimeout),
		CallTimeout: c.RequestTimeout, IdleTimeout: millis(propMaxIdle), MetadataTTL: millis(propMetadataMaxAge), BrokerVersion: p[propBrokerVersion],
	}
	var err error
	if w.TLS, err = tlsConfig(p); err != nil {
		return w, err
	}
	w.SASL, err = saslConfig(p)
	return w, err
}

func saslConfig(p map[string]string) (wire.SASL, error) {
	if !slices.Contains([]string{"SASL_PLAINTEXT", "SASL_SSL"}, p[propSecurityProtocol]) {
		return wire.SASL{}, nil
	}
	s := wire.SASL{Mechanism: p[propMechanism]}
	username, password := p[propUsername], p[propPassword]
	if jaas, ok := p[propJAAS]; ok {
		text, err := resolveSecret(propJAAS, jaas)
		if err != nil {
			return s, err
		}
		l, err := parseJAAS(text)
		if err != nil {
			return s, err
		}
		if l.module != moduleOf(s.Mechanism) {
			return s, &PropertyError{Name: propJAAS, Reason: "the login module is not the one of " + s.Mechanism, Hint: "want " + moduleOf(s.Mechanism)}
		}
		username, password = l.username, l.password
	}
	var err error
	if s.Username, err = resolveSecret(propUsername, username); err != nil {
		return s, err
	}
	s.Password, err = resolveSecret(propPassword, password)
	return s, err
}
