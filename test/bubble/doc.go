// Package bubble runs a whole cluster in one process on virtual time (testing/synctest): the real job
// manager with a real database, real task managers, real gRPC, over a network and a log in memory. A test
// says what breaks and when; minutes of waiting cost milliseconds, and a goroutine that is left behind
// fails the test.
package bubble
