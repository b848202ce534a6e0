package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// Machine is where and with what the figures were measured; figures of different machines do not compare.
type Machine struct {
	CPU       string    `json:"cpu"`
	CPUs      int       `json:"cpus"`
	MemoryGiB float64   `json:"memoryGiB"`
	Kernel    string    `json:"kernel"`
	Go        string    `json:"go"`
	Revision  string    `json:"revision"`
	Load1     float64   `json:"loadAverage1"` // before the first step
	At        time.Time `json:"at"`
}

// String is one line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs shared by the job manager and all simulated task managers, %.0f GiB, Linux %s, %s, revision %s, load %.1f before the first step, %s",
		m.CPU, m.CPUs, m.MemoryGiB, m.Kernel, m.Go, m.Revision, m.Load1, m.At.Format(time.DateTime))
}

// describeMachine leaves empty what the machine does not tell.
func describeMachine(ctx context.Context) Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Revision: revision(ctx), Load1: loadAverage(), At: time.Now()}
	if proc, err := procfs.NewDefaultFS(); err == nil {
		if cpus, err := proc.CPUInfo(); err == nil && len(cpus) > 0 {
			m.CPU = cpus[0].ModelName
		}
		if memory, err := proc.Meminfo(); err == nil && memory.MemTotalBytes != nil {
			m.MemoryGiB = float64(*memory.MemTotalBytes) / (1 << 30)
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	return m
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

// loadAverage is the kernel's, over one minute; 0 if it does not tell.
func loadAverage() float64 {
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

// usage is what a process has used. The kernel counts processor time in hundredths of a second.
type usage struct {
	cpu                    time.Duration // user and system, of all threads, since the start of the process
	rssBytes, peakRSSBytes int64
}

func usageOf(pid int) (usage, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return usage{}, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	stat, err := p.Stat()
	status, err2 := p.NewStatus()
	if err := errors.Join(err, err2); err != nil {
		return usage{}, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	return usage{cpu: seconds(stat.CPUTime()), rssBytes: int64(status.VmRSS), peakRSSBytes: int64(status.VmHWM)}, nil
}

// machineBusy is the processor time that the whole machine has spent; what the host took away (steal) counts.
func machineBusy() (time.Duration, error) {
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

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
