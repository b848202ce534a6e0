package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// Machine is where and with what the figures were measured; figures of different machines do not compare.
type Machine struct {
	CPU      string    `json:"cpu"`
	CPUs     int       `json:"cpus"`
	MemoryGB float64   `json:"memoryGiB"`
	Kernel   string    `json:"kernel"`
	Go       string    `json:"go"`
	Kafka    string    `json:"kafka"`
	Revision string    `json:"revision"`
	Load1    string    `json:"loadAverage1"` // before the first run
	At       time.Time `json:"at"`
}

// String is one line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs shared by all processes, %.0f GiB, Linux %s, %s, %s, revision %s, load %s before the first run, %s",
		m.CPU, m.CPUs, m.MemoryGB, m.Kernel, m.Go, m.Kafka, m.Revision, m.Load1, m.At.Format(time.DateTime))
}

// describeMachine leaves empty what the machine does not tell.
func describeMachine(ctx context.Context) Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Kafka: string(kafkaenv.Kafka43), At: time.Now()}
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			m.CPU = strings.Trim(name, " \t:\n")
			break
		}
	}
	m.MemoryGB = float64(kibOf([]byte(read("/proc/meminfo")), "MemTotal:")) / (1 << 30)
	m.Kernel = strings.TrimSpace(read("/proc/sys/kernel/osrelease"))
	m.Load1, _, _ = strings.Cut(read("/proc/loadavg"), " ")
	m.Revision = revision(ctx)
	return m
}

func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
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
