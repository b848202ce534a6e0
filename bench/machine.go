package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/machine"
)

// Machine is where and with what the figures were measured.
type Machine struct {
	machine.Host
	Kafka string `json:"kafka,omitempty"`
	Java  string `json:"java,omitempty"` // that of Kafka and Flink
}

// String is one line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs shared by all processes, %.0f GiB, Linux %s, %s, %s on %s, revision %s, load %.1f before the first run, %s",
		m.CPU, m.CPUs, m.MemoryGiB, m.Kernel, m.Go, m.Kafka, m.Java, m.Revision, m.Load1, m.At.Format(time.DateTime))
}

// describeMachine leaves empty what the machine does not tell.
func describeMachine(ctx context.Context) Machine {
	return Machine{Host: machine.Describe(ctx), Kafka: string(kafkaenv.Kafka43), Java: javaVersion(ctx)}
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
