//go:build race

package wire

// raceEnabled: the detector makes sync.Pool drop objects at random.
const raceEnabled = true
