// Package machine tells what a machine is, how busy it is, and what its processes have used, for figures that belong to it.
package machine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// Host is where and with what figures were measured; figures of different machines do not compare.
type Host struct {
	CPU       string    `json:"cpu"`
	CPUs      int       `json:"cpus"`
	MemoryGiB float64   `json:"memoryGiB"`
	Kernel    string    `json:"kernel"`
	Go        string    `json:"go"`
	Revision  string    `json:"revision"`
	Load1     float64   `json:"loadAverage1"` // at the time below
	At        time.Time `json:"at"`
}

// Describe leaves empty what the machine does not tell.
func Describe(ctx context.Context) Host {
	h := Host{CPUs: runtime.NumCPU(), Go: runtime.Version(), Revision: revision(ctx), Load1: LoadAverage(), At: time.Now()}
	if proc, err := procfs.NewDefaultFS(); err == nil {
		if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
			h.CPU = cpus[0].ModelName
		}
		if memory, err := proc.Meminfo(); err == nil && memory.MemTotalBytes != nil {
			h.MemoryGiB = float64(*memory.MemTotalBytes) / (1 << 30)
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(release))
	}
	return h
}

// revision is the commit that was built, marked when the working tree differs from it.
func revision(ctx context.Context) string {
	head, err := exec.CommandContext(ctx, "git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	out := string(bytes.TrimSpace(head))
	if err != nil || len(changes) > 0 {
		out += " with changes"
	}
	return out
}

// LoadAverage is the kernel's, over one minute; 0 if it does not tell. Above the number of processors, work
// waits for its turn, and times say more about the machine than about what is measured.
func LoadAverage() float64 {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	load, err := proc.LoadAvg()
	if err != nil {
		return 0
	}
	return load.Load1
}

// Busy is the processor time that the whole machine has spent since it started. What the host took away (steal)
// counts as busy.
func Busy() (time.Duration, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, fmt.Errorf("reading the usage of the machine: %w", err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return 0, fmt.Errorf("reading the usage of the machine: %w", err)
	}
	c := stat.CPUTotal
	return seconds(c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal), nil
}

// Usage is what a process has used. The kernel counts processor time in hundredths of a second.
type Usage struct {
	CPU          time.Duration // user and system, of all threads, since the start of the process
	RSSBytes     int64         // now
	PeakRSSBytes int64         // VmHWM
}

// UsageOf reads the usage of a process that runs.
func UsageOf(pid int) (Usage, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return Usage{}, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	stat, err := p.Stat()
	if err != nil {
		return Usage{}, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	status, err := p.NewStatus()
	if err != nil {
		return Usage{}, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	return Usage{CPU: seconds(stat.CPUTime()), RSSBytes: int64(status.VmRSS), PeakRSSBytes: int64(status.VmHWM)}, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
