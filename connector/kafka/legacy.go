package kafka

import (
	"fmt"
	"strings"

	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// Brokers before 0.10 cannot say which calls they speak; broker.version says it for them. This file refuses what such
// brokers cannot do, with the reason, before a job begins.

// withHeaders is why a record cannot be written to a legacy broker.
type withHeaders struct{ version, place string }

// Error says where the record comes from, and what is missing there.
func (e *withHeaders) Error() string {
	return fmt.Sprintf("a record (from %s) has headers, which message format v0 (%s %s) cannot hold", e.place, propBrokerVersion, e.version)
}

// RecordFault is the class of the fault in dead letters.
func (e *withHeaders) RecordFault() string { return "headers" }

// checkHeaders asks what becomes of a record with headers, which would lose them.
func (s *Sink) checkHeaders(b *operator.Batch, i int, t *topic) error {
	r := &b.Records[i]
	if r.Headers.Len <= 0 {
		return nil
	}
	return s.refused(b, i, "headers", &Error{Where: t.name, Err: &withHeaders{s.cfg.connection[propBrokerVersion], placeOf(b, r)},
		Hint: "remove them before the sink: map: {headers: '[]'}", class: "user"})
}

// brokerVersionFault says why a value of broker.version cannot be taken.
func brokerVersionFault(value string) error {
	e := &PropertyError{Name: propBrokerVersion, Reason: fmt.Sprintf("%.*q is not one of 0.8.2 and 0.9.0", shownBytes, value), Hint: "remove it: the broker says what it speaks"}
	switch {
	case strings.HasPrefix(value, "0.8.2"):
		e.Hint = "write " + wire.Broker082
	case strings.HasPrefix(value, "0.9"), strings.HasPrefix(value, "0.10"): // 0.10 answers all calls of 0.9
		e.Hint = "write " + wire.Broker090
	case strings.HasPrefix(value, "0.8"), strings.HasPrefix(value, "0.7"):
		e.Hint = "brokers before 0.8.2 are not supported: upgrade them"
	}
	return e
}

// brokerVersion judges what properties mean to legacy brokers.
func (c *checker) brokerVersion() {
	version, ok := c.properties[propBrokerVersion]
	if !ok {
		return
	}
	protocol := textOf(c.properties, propSecurityProtocol)
	switch {
	case strings.HasPrefix(protocol, "SASL"):
		c.add(propSecurityProtocol, "set it to PLAINTEXT", "brokers before 0.10 (%s %s) have no SASL with a password", propBrokerVersion, version)
	case protocol == "SSL" && version == wire.Broker082:
		c.add(propSecurityProtocol, "set it to PLAINTEXT", "brokers before 0.9 (%s %s) have no TLS", propBrokerVersion, version)
	}
	if c.properties[propCompression] == "zstd" {
		c.add(propCompression, "want none | gzip | snappy | lz4", "zstd came with Kafka 2.1, and %s is %s", propBrokerVersion, version)
	}
	for _, level := range []string{propGzipLevel, propLZ4Level, propZstdLevel} {
		if c.has(level) {
			c.add(level, "remove it", "it has no effect with %s %s: its message sets are compressed at the codec's own level", propBrokerVersion, version)
		}
	}
	if c.has(propTransactionTimeout) {
		c.add(propTransactionTimeout, "remove it", "there are no transactions with %s %s", propBrokerVersion, version)
	}
}

// checkLegacySource refuses what a source cannot have of legacy brokers.
func checkLegacySource(s *graph.Source) error {
	k := s.Kafka
	version, ok := k.Properties[propBrokerVersion]
	if !ok {
		return nil
	}
	fault := func(hint, format string, args ...any) error {
		return &PropertyError{Name: propBrokerVersion, Reason: version + ": " + fmt.Sprintf(format, args...), Hint: hint}
	}
	switch {
	case k.Mode == graph.ModeGroup: // first: the ways out of the others are none there
		return fault("remove mode: group", "groups need calls that are used from Kafka 0.11 on")
	case k.Startup.Mode == graph.StartTimestamp || k.Bounded.Mode == graph.BoundTimestamp:
		return fault("use earliest, latest or {offsets: …}", "brokers before 0.10.1 find a time only as precisely as the segments of their logs")
	case k.Startup.Mode == graph.StartCommitted && k.Offsets != graph.OffsetsZooKeeper:
		return fault("set offsets: {storage: zookeeper}, or startup: earliest | latest | {offsets: …}", "offsets in Kafka are not read from brokers before 0.11, so startup: committed finds none")
	case k.OnError.Policy == graph.DeadLetter:
		return fault("use onError: fail | skip", "dead letters carry headers, which message format v0 cannot hold")
	case publishes(s):
		return fault("set offsets: {storage: zookeeper} or {storage: none}", "offsets are not written to Kafka with brokers before 0.11")
	}
	return nil
}

// checkLegacySink refuses what a sink cannot have of legacy brokers.
func checkLegacySink(k *graph.KafkaSink) error {
	version, ok := k.Properties[propBrokerVersion]
	if !ok || k.Guarantee != graph.ExactlyOnce {
		return nil
	}
	return &PropertyError{Name: propBrokerVersion, Reason: version + ": guarantee: exactly-once needs transactions, which came with Kafka 0.11",
		Hint: "use guarantee: at-least-once, or write to a newer cluster (a source of " + version + " can be read exactly-once)"}
}
