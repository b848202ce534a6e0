// Package wire is all that Sluice knows of Kafka's wire protocol, on top of kafka-go's Transport.
//
// kafka-go gives connections, SASL, version negotiation and the small messages. Fetch and Produce
// are written and read here, byte by byte, because kafka-go's own path returns aborted records,
// stalls on control batches and can end the process on a malformed batch. All calls hand Transport
// one message type of ours that reads and writes the connection itself (protocol.RawExchanger), so
// nothing is registered process-wide, routing is ours, and every length is checked before memory is
// reserved.
//
// Brokers before 0.11 are a mode of their own (Config.BrokerVersion): four calls in version 0. What is stored in the message
// formats before v2 becomes a v2 batch where it is read, so that nothing behind knows of them.
//
// Nothing here retries what could change the outcome: the source and the sink decide, with the help
// of Classify. Only calls that read, or that set the same value again, are repeated once on a new
// connection after the broker closed an idle one.
package wire
