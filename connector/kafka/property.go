package kafka

import (
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// Type is what a property's value looks like.
type Type int

// The types.
const (
	// Text is any text.
	Text Type = iota + 1
	// Integer is a whole number within Min and Max.
	Integer
	// Millis is a number of milliseconds within Min and Max.
	Millis
	// SizeBytes is a number of bytes within Min and Max.
	SizeBytes
	// Choice is one of Values.
	Choice
	// Servers is a list host:port,host:port.
	Servers
	// File is the path of a file on the machine that uses it.
	File
	// Secret is a reference ${env:NAME} or ${file:PATH}, never the secret itself.
	Secret
)

// String names the type for a table of properties.
func (t Type) String() string {
	names := [...]string{"", "text", "integer", "milliseconds", "bytes", "choice", "host:port list", "file", "secret reference"}
	if t < Text || int(t) >= len(names) {
		return "unknown type"
	}
	return names[t]
}

// Property is a Kafka property that a job may set.
type Property struct {
	Name string
	// Source and Sink say where it may stand.
	Source, Sink bool
	Type         Type
	Min, Max     int64    // of the numeric types, inclusive
	Values       []string // of a Choice
	// Default is what holds when it is not set; empty: nothing, or as Doc says.
	Default string
	Doc     string
}

// appliesTo says whether the property may stand in a part of this kind.
func (p *Property) appliesTo(kind graph.Kind) bool {
	return kind == graph.KindSource && p.Source || kind == graph.KindSink && p.Sink
}

// Role says where the property may stand: source, sink or both.
func (p *Property) Role() string {
	switch {
	case p.Source && p.Sink:
		return "both"
	case p.Source:
		return "source"
	default:
		return "sink"
	}
}

// Properties is the table of what is allowed, by name. It belongs to the caller.
func Properties() []Property {
	all := slices.Concat(connectionProperties, securityProperties, sourceProperties, offsetProperties, groupProperties, sinkProperties)
	slices.SortFunc(all, func(a, b Property) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func findProperty(name string) (*Property, bool) {
	for _, table := range [][]Property{connectionProperties, securityProperties, sourceProperties, offsetProperties, groupProperties, sinkProperties} {
		for i := range table {
			if table[i].Name == name {
				return &table[i], true
			}
		}
	}
	return nil, false
}

const (
	hourMs = 3_600_000
	dayMs  = 24 * hourMs
	mib    = 1 << 20
	// minTransactionTimeout is the least transaction.timeout.ms.
	minTransactionTimeout = 10 * time.Second
)

func both(p Property) Property   { p.Source, p.Sink = true, true; return p }
func source(p Property) Property { p.Source = true; return p }
func sink(p Property) Property   { p.Sink = true; return p }

// The tables. They are never changed.
var (
	connectionProperties = []Property{
		both(Property{Name: propBootstrap, Type: Servers, Doc: "brokers to ask first; required"}),
		both(Property{Name: propClientID, Type: Text, Default: "sluice", Doc: "name by which brokers log and limit the client"}),
		both(Property{Name: propRequestTimeout, Type: Millis, Min: 1000, Max: hourMs, Default: "30000", Doc: "how long an answer may take"}),
		both(Property{Name: propMetadataMaxAge, Type: Millis, Min: 100, Max: dayMs, Default: "2000", Doc: "how old the known leaders may be when a partition looks for its leader; errors refresh at once"}),
		both(Property{Name: propRetryBackoff, Type: Millis, Min: 1, Max: hourMs, Default: "100", Doc: "first pause after an error answer; it doubles up to retry.backoff.max.ms"}),
		both(Property{Name: propRetryBackoffMax, Type: Millis, Min: 1, Max: hourMs, Default: "1000", Doc: "longest pause after an error answer"}),
		both(Property{Name: propReconnectBackoff, Type: Millis, Min: 1, Max: hourMs, Default: "50", Doc: "first pause after a broker could not be reached; it doubles up to reconnect.backoff.max.ms"}),
		both(Property{Name: propReconnectBackoffMax, Type: Millis, Min: 1, Max: hourMs, Default: "1000", Doc: "longest pause after a broker could not be reached"}),
		both(Property{Name: propMaxIdle, Type: Millis, Min: 1000, Max: dayMs, Default: "240000", Doc: "unused connections are closed after this; keep it below the brokers' value and the life of a SASL session"}),
		both(Property{Name: propBrokerVersion, Type: Choice, Values: []string{"0.8.2", "0.9.0"}, Doc: "only for brokers too old to say what they speak, and for Kafka 0.10 as 0.9.0: see docs/LEGACY_BROKERS.md; default: the broker is asked"}),
		both(Property{Name: propConnectionTimeout, Type: Millis, Min: 100, Max: hourMs, Default: "5000", Doc: "how long connecting may take, TLS and SASL included"}),
	}
	securityProperties = []Property{
		both(Property{Name: propSecurityProtocol, Type: Choice, Values: []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, Default: "PLAINTEXT", Doc: "how to talk to the brokers"}),
		both(Property{Name: propMechanism, Type: Choice, Values: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, Doc: "how to log in; required with SASL_PLAINTEXT and SASL_SSL"}),
		both(Property{Name: propUsername, Type: Text, Doc: "user of SASL; may be a reference"}),
		both(Property{Name: propPassword, Type: Secret, Doc: "password of SASL"}),
		both(Property{Name: propJAAS, Type: Text, Doc: "instead of sasl.username and sasl.password: PlainLoginModule or ScramLoginModule with username and password, the password as a reference, or a reference to the whole"}),
		both(Property{Name: propCA, Type: File, Doc: "PEM file of the certificate authorities to trust; default: those of the machine"}),
		both(Property{Name: propTruststore, Type: File, Doc: "the same as ssl.ca.location, PEM only"}),
		both(Property{Name: propTruststoreType, Type: Choice, Values: []string{"PEM"}, Default: "PEM", Doc: "PEM is all that is read"}),
		both(Property{Name: propCertificate, Type: File, Doc: "PEM file of the client's certificate chain"}),
		both(Property{Name: propKey, Type: File, Doc: "PEM file of the client's private key"}),
		both(Property{Name: propKeyPassword, Type: Secret, Doc: "password of an encrypted private key (PKCS#1 PEM)"}),
		both(Property{Name: propEndpointAlgorithm, Type: Choice, Values: []string{"https", ""}, Default: "https", Doc: "https: the broker's certificate must name its host; empty: any host will do"}),
	}
	sourceProperties = []Property{
		source(Property{Name: propGroup, Type: Text, Doc: "group under which offsets are published and found by startup: committed; no consumer may use it at the same time, save with mode: group, where they share the partitions"}),
		source(Property{Name: propReset, Type: Choice, Values: []string{"earliest", "latest", "none"}, Default: "latest", Doc: "where startup: committed begins without a committed offset; partitions that come later are read from their beginning"}),
		source(Property{Name: propIsolation, Type: Choice, Values: []string{"read_committed", "read_uncommitted"}, Default: "read_committed", Doc: "whether records of open and aborted transactions are read"}),
		source(Property{Name: propRack, Type: Text, Doc: "rack of the task manager, or ${env:NAME} where each task manager has its own: what a replica in the same rack holds is read from it, if the brokers have replica.selector.class: org.apache.kafka.common.replica.RackAwareReplicaSelector"}),
		source(Property{Name: propDiscovery, Type: Millis, Min: 0, Max: dayMs, Default: "300000", Doc: "time between two searches for new partitions and, with topicPattern, new topics, 100 at least; they are read from their beginning; 0: only when the job starts or restarts; no effect on bounded sources and fixed partitions"}),
		source(Property{Name: propFetchMinBytes, Type: SizeBytes, Min: 1, Max: 64 * mib, Default: "1", Doc: "the broker waits for so much"}),
		source(Property{Name: propFetchMaxWait, Type: Millis, Min: 1, Max: 60_000, Default: "500", Doc: "the broker waits no longer than this"}),
		source(Property{Name: propFetchMaxBytes, Type: SizeBytes, Min: 1024, Max: 64 * mib, Default: "8388608", Doc: "largest answer of a broker; a larger first batch is taken all the same"}),
		source(Property{Name: propPartitionFetchBytes, Type: SizeBytes, Min: 1024, Max: 64 * mib, Default: "1048576", Doc: "most bytes of one partition in an answer; a larger first batch is taken all the same"}),
	}
	sinkProperties = []Property{
		sink(Property{Name: propLinger, Type: Millis, Min: 0, Max: 60_000, Default: "5", Doc: "how long a record may wait for others in its batch"}),
		sink(Property{Name: propBatchSize, Type: SizeBytes, Min: 1, Max: 16 * mib, Default: "921600", Doc: "size at which a batch is closed, before compression; a topic's max.message.bytes below it splits batches"}),
		sink(Property{Name: propMaxRequest, Type: SizeBytes, Min: 1024, Max: 16 * mib, Default: "16777216", Doc: "largest record; a topic's max.message.bytes may be less"}),
		sink(Property{Name: propBufferMemory, Type: SizeBytes, Min: mib, Max: 1 << 36, Default: "33554432", Doc: "bytes that wait for brokers in one subtask; when they are used up, the job is held back; so it is by two batches of one partition, or 2 MiB, whichever is more"}),
		sink(Property{Name: propCompression, Type: Choice, Values: []string{"none", "gzip", "snappy", "lz4", "zstd"}, Doc: "default: batches passed on as a whole keep theirs, others have none"}),
		sink(Property{Name: propGzipLevel, Type: Integer, Min: 1, Max: 9, Doc: "effort of gzip"}),
		sink(Property{Name: propLZ4Level, Type: Integer, Min: 1, Max: 9, Doc: "effort of lz4"}),
		sink(Property{Name: propZstdLevel, Type: Integer, Min: 1, Max: 22, Doc: "effort of zstd"}),
		sink(Property{Name: propDeliveryTimeout, Type: Millis, Min: 1000, Max: dayMs, Default: "120000", Doc: "how long a batch is retried before the job restarts"}),
		sink(Property{Name: propTransactionTimeout, Type: Millis, Min: minTransactionTimeout.Milliseconds(), Max: dayMs, Default: "900000", Doc: "how long an exactly-once transaction may stay open until its checkpoint is committed; at most the brokers' transaction.max.timeout.ms"}),
	}
)

// The names.
const (
	propBootstrap           = "bootstrap.servers"
	propClientID            = "client.id"
	propRequestTimeout      = "request.timeout.ms"
	propMetadataMaxAge      = "metadata.max.age.ms"
	propRetryBackoff        = "retry.backoff.ms"
	propRetryBackoffMax     = "retry.backoff.max.ms"
	propReconnectBackoff    = "reconnect.backoff.ms"
	propReconnectBackoffMax = "reconnect.backoff.max.ms"
	propMaxIdle             = "connections.max.idle.ms"
	propConnectionTimeout   = "socket.connection.setup.timeout.ms"
	propBrokerVersion       = "broker.version"

	propSecurityProtocol  = "security.protocol"
	propMechanism         = "sasl.mechanism"
	propUsername          = "sasl.username"
	propPassword          = "sasl.password"
	propJAAS              = "sasl.jaas.config"
	propCA                = "ssl.ca.location"
	propTruststore        = "ssl.truststore.location"
	propTruststoreType    = "ssl.truststore.type"
	propCertificate       = "ssl.certificate.location"
	propKey               = "ssl.key.location"
	propKeyPassword       = "ssl.key.password"
	propEndpointAlgorithm = "ssl.endpoint.identification.algorithm"

	propGroup               = "group.id"
	propReset               = "auto.offset.reset"
	propIsolation           = "isolation.level"
	propRack                = "client.rack"
	propDiscovery           = "partition.discovery.interval.ms"
	propFetchMinBytes       = "fetch.min.bytes"
	propFetchMaxWait        = "fetch.max.wait.ms"
	propFetchMaxBytes       = "fetch.max.bytes"
	propPartitionFetchBytes = "max.partition.fetch.bytes"

	propLinger             = "linger.ms"
	propBatchSize          = "batch.size"
	propMaxRequest         = "max.request.size"
	propBufferMemory       = "buffer.memory"
	propCompression        = "compression.type"
	propGzipLevel          = "compression.gzip.level"
	propLZ4Level           = "compression.lz4.level"
	propZstdLevel          = "compression.zstd.level"
	propDeliveryTimeout    = "delivery.timeout.ms"
	propTransactionTimeout = "transaction.timeout.ms"
)

// refused are properties of Kafka's own clients that a user may bring along, with the reason and the way
// out.
var refused = map[string]string{
	"acks":                                  "it is set by Sluice: all replicas in sync, or the leader with guarantee: none",
	"enable.idempotence":                    "it is set by Sluice: always on, save with guarantee: none",
	"max.in.flight.requests.per.connection": "it is set by Sluice: one batch per partition is on its way, so that the order holds",
	"retries":                               "it is set by Sluice: batches are retried for " + propDeliveryTimeout,
	"transactional.id":                      "it is set by Sluice: every attempt of a job owns ids of its own",
	"transactional.id.prefix":               "it is set by Sluice: every attempt of a job owns ids of its own",
	"key.serializer":                        "records are bytes: remove it",
	"value.serializer":                      "records are bytes: remove it",
	"key.deserializer":                      "remove it and use keyFormat",
	"value.deserializer":                    "remove it and use format",
	"partitioner.class":                     "remove it and use partitioner: key | fixed | round-robin | preserve | {expression: CEL}",
	"interceptor.classes":                   "there are no Java classes here: remove it",
	"partition.assignment.strategy":         "it is set by Sluice: partitions are assigned to subtasks by the job manager, with mode: group roundrobin, or range beside members that know only that",
	"group.instance.id":                     "it has no meaning here: every attempt of a job has members of its own; remove it",
	"max.poll.records":                      "it has no meaning here: what is read ahead is bounded in bytes by " + propFetchMaxBytes + "; remove it",
	"max.poll.interval.ms":                  "it has no meaning here: a source that is held back by its sinks stays a member of its group; remove it",
	"check.crcs":                            "it is set by Sluice: checksums are always checked; that of a batch that is passed on unopened is checked by the broker that takes it; remove it",
	"allow.auto.create.topics":              "topics are never created: create them before; remove it",
	"compression.level":                     "name the codec: " + propGzipLevel + ", " + propLZ4Level + " or " + propZstdLevel,
	"sasl.mechanisms":                       "write " + propMechanism,
	"sasl.login.callback.handler.class":     "there are no Java classes here: use " + propUsername + " and " + propPassword,
	"ssl.keystore.location":                 "key stores are not read: export PEM files and use " + propCertificate + " and " + propKey,
	"ssl.keystore.password":                 "key stores are not read: export PEM files and use " + propCertificate + ", " + propKey + " and " + propKeyPassword,
	"ssl.keystore.type":                     "key stores are not read: export PEM files and use " + propCertificate + " and " + propKey,
	"ssl.truststore.password":               "PEM files need no password: remove it",
	"metadata.broker.list":                  "write " + propBootstrap,
}
