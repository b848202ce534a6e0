//go:build race

package sim

// schedules is how many seeds a test run takes; the race detector makes each about ten times slower.
const schedules = 5_000
