// Package kafkaenv gives tests real Kafka brokers, real ZooKeeper servers and kfake, all behind one
// type, so that one suite runs on each of them and the imitation cannot lie.
//
// Real servers run from jars that Maven fetches once into a cache ($SLUICE_TEST_CACHE, else
// sluice-test in the user's cache directory), on free ports of 127.0.0.1, and die with the test
// process. Without java or mvn a test is skipped loudly; with CI=true it fails.
package kafkaenv
