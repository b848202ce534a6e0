//go:build race

package kafka

// raceEnabled: the detector makes sync.Pool drop objects at random.
const raceEnabled = true
