//go:build !race

package sim

// schedules is how many seeds a test run takes.
const schedules = 60_000
