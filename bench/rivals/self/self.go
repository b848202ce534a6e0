// Package self is what the rivals of the benchmark tell about themselves.
package self

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"

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

// Profiled takes a CPU profile of work, if there is a file for it.
func Profiled(file string, work func() error) (err error) {
	if file == "" {
		return work()
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return work()
}
