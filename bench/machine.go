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

	"github.com/prometheus/procfs"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// Machine is where and with what the figures were measured; figures of different machines do not compare.
type Machine struct {
	CPU       string    `json:"cpu"`
	CPUs      int       `json:"cpus"`
	MemoryGiB float64   `json:"memoryGiB"`
	Kernel    string    `json:"kernel"`
	Go        string    `json:"go"`
	Kafka     string    `json:"kafka"`
	Java      string    `json:"java"` // that of Kafka and Flink
	Revision  string    `json:"revision"`
	Load1     float64   `json:"loadAverage1"` // before the first run
	At        time.Time `json:"at"`
}

// String is one line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs shared by all processes, %.0f GiB, Linux %s, %s, %s on %s, revision %s, load %.1f before the first run, %s",
		m.CPU, m.CPUs, m.MemoryGiB, m.Kernel, m.Go, m.Kafka, m.Java, m.Revision, m.Load1, m.At.Format(time.DateTime))
}

// describeMachine leaves empty what the machine does not tell.
func describeMachine(ctx context.Context) Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Kafka: string(kafkaenv.Kafka43), Load1: loadAverage(), At: time.Now()}
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
	m.Java, m.Revision = javaVersion(ctx), revision(ctx)
	return m
}

// javaVersion is the last line of what the Java in PATH says, which names its build.
func javaVersion(ctx context.Context) string {
	output, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if err != nil {
		return "an unknown Java"
	}
	return lines[len(lines)-1]
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
