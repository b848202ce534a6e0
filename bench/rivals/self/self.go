// Package self is what the rivals of the benchmark tell about themselves.
package self

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/prometheus/procfs"
)

// Report writes one JSON object: the counts, "mallocs" (allocations since the start of this process) and
// "peakRSSBytes".
func Report(w io.Writer, counts map[string]uint64) error {
	process, err := procfs.Self()
	if err != nil {
		return fmt.Errorf("reading the memory of this process: %w", err)
	}
	status, err := process.NewStatus()
	if err != nil {
		return fmt.Errorf("reading the memory of this process: %w", err)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	counts["mallocs"], counts["peakRSSBytes"] = memory.Mallocs, status.VmHWM
	return json.NewEncoder(w).Encode(counts)
}
