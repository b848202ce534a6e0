package kafka

// refusedForeign are properties of Flink's connectors, and of Kafka's clients of old, that a user may bring along; see
// refused.
var refusedForeign = map[string]string{
	"client.id.prefix":                          "write " + propClientID,
	"register.consumer.metrics":                 "it has no meaning here: metrics are always there; remove it",
	"register.producer.metrics":                 "it has no meaning here: metrics are always there; remove it",
	"flink.disable-metrics":                     "it has no meaning here: metrics are always there; remove it",
	"flink.partition-discovery.interval-millis": "write " + propDiscovery,
	"fetch.message.max.bytes":                   "write " + propPartitionFetchBytes,
	"fetch.wait.max.ms":                         "write " + propFetchMaxWait,
	"socket.timeout.ms":                         "write " + propRequestTimeout,
	"socket.receive.buffer.bytes":               "the operating system sizes the buffers of connections: remove it",
	"receive.buffer.bytes":                      "the operating system sizes the buffers of connections: remove it",
	"send.buffer.bytes":                         "the operating system sizes the buffers of connections: remove it",
	"queue.buffering.max.ms":                    "write " + propLinger,
	"compression.codec":                         "write " + propCompression,
	"sasl.kerberos.service.name":                "there is no Kerberos here: use " + propMechanism + " PLAIN or SCRAM",
}

// formerValues are words of Kafka's consumers of old, with those of today.
var formerValues = map[string]string{"smallest": "earliest", "largest": "latest"}
