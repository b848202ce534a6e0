// Package kafka reads from and writes to Kafka: the source, the sink, the properties by which users set
// them up, and what the job manager asks the brokers (checks, start offsets, published offsets).
//
// All of the protocol is in package wire. What is here decides: which split is fetched from where, what
// is retried, what a failure means, and in which order batches go out. Nothing here ever gives up the
// order of a partition, and nothing is retried without saying so: the reason is reported while it lasts.
//
// The sink seals at barriers and tells epochs apart, so that a transactional sink differs only in what it
// does around a batch (DESIGN 6, rules 7 to 13).
package kafka
