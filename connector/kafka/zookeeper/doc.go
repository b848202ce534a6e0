// Package zookeeper keeps consumer offsets in ZooKeeper, where Kafka 0.8's tools and Flink's old
// consumers have them: /consumers/GROUP/offsets/TOPIC/PARTITION, a decimal number in ASCII.
//
// Offsets there are for monitoring and a first start, never to restore from (DESIGN rule 15). What the
// number means, the last record processed or the next one to read, is for the caller to know.
//
// The library go-zookeeper/zk does the protocol. It trusts its server: it waits for ever for the second
// half of an answer, reads past the end of short ones and panics on others, in goroutines of its own where
// nobody can catch that. So it sees only whole and checked packets (framed.go), is used for one connection
// and thrown away with it (session.go), and is never asked to reconnect. A request whose answer did not
// come may have been carried out: what is there is read again, not guessed (offsets.go).
package zookeeper
