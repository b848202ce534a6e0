package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of processor time in /proc: USER_HZ, which is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what a process has used.
type usage struct {
	CPU          time.Duration // user and system, of all threads, since the start of the process
	RSSBytes     int64         // now
	PeakRSSBytes int64         // VmHWM
}

// usageOf reads the usage of a process that runs.
func usageOf(pid int) (usage, error) {
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	if u.CPU, err = cpuOf(stat); err != nil {
		return u, fmt.Errorf("reading the usage of process %d: %w", pid, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("reading the memory of process %d: %w", pid, err)
	}
	u.RSSBytes, u.PeakRSSBytes = kibOf(status, "VmRSS:"), kibOf(status, "VmHWM:")
	return u, nil
}

// cpuOf takes utime and stime out of /proc/PID/stat (proc(5), fields 14 and 15). The name of the program,
// field 2, may hold spaces and parentheses.
func cpuOf(stat []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat is %q, want at least 15 fields", stat)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// kibOf takes a line such as "VmHWM:  1234 kB" out of /proc/PID/status, in bytes; 0 if it is not there.
func kibOf(status []byte, name string) int64 {
	for line := range bytes.Lines(status) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != name {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}

// busyOf is the processor time that the whole machine has spent since it started: the sum of the first
// line of /proc/stat without idle and iowait. Time that the host took away (steal) counts as busy.
func busyOf(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q, want the sum of all processors", line)
	}
	var ticks int64
	for i, field := range fields[1:9] { // user nice system idle iowait irq softirq steal; guests are in user
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick, nil
}

func machineBusy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("reading the usage of the machine: %w", err)
	}
	return busyOf(stat)
}

// childPid finds the one child of this process that runs the given program.
func childPid(program string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("looking for the child %s: %w", program, err)
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("looking for the child %s: %w", program, err)
		}
		begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		fields := strings.Fields(string(stat[end+1:]))
		if begin >= 0 && len(fields) > 1 && string(stat[begin+1:end]) == program && fields[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, pid)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("looking for the child %s: found %v, want one", program, found)
	}
	return found[0], nil
}
