package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// usage is what a process has used. The kernel counts processor time in hundredths of a second.
type usage struct {
	CPU          time.Duration // user and system, of all threads, since the start of the process
	RSSBytes     int64         // now
	PeakRSSBytes int64         // VmHWM
}

// usageOf reads the usage of a process that runs.
func usageOf(pid int) (usage, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return usage{}, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	stat, err := p.Stat()
	if err != nil {
		return usage{}, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	status, err := p.NewStatus()
	if err != nil {
		return usage{}, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	return usage{CPU: seconds(stat.CPUTime()), RSSBytes: int64(status.VmRSS), PeakRSSBytes: int64(status.VmHWM)}, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// machineBusy is the processor time that the whole machine has spent since it started. What the host
// took away (steal) counts as busy.
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

// loadAverage is the kernel's, over one minute; 0 if it does not tell. Above the number of processors, work
// waits for its turn, and times say more about the machine than about what is measured.
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

// childPid finds the one child of this process that runs the given program.
func childPid(program string) (int, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return 0, fmt.Errorf("looking for the child %s: %w", program, err)
	}
	var found []int
	for _, p := range all {
		stat, err := p.Stat()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("looking for the child %s: %w", program, err)
		}
		if stat.Comm == program && stat.PPID == os.Getpid() {
			found = append(found, p.PID)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("looking for the child %s: found %v, want one", program, found)
	}
	return found[0], nil
}
