//go:build race

package exchange

// raceEnabled: the detector makes sync.Pool drop objects at random.
const raceEnabled = true
