package machine

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestUsageGrows(t *testing.T) {
	before, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	busy, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	for start, sum := time.Now(), 0; time.Since(start) < 100*time.Millisecond; sum++ {
	}
	after, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// The kernel counts in hundredths of a second, and the machine may be busy with something else.
	if grown := after.CPU - before.CPU; grown < 10*time.Millisecond || grown > 10*time.Second {
		t.Errorf("processor time grew by %s in 0.1 s of work", grown)
	}
	if now, err := Busy(); err != nil || now <= busy {
		t.Errorf("the machine was busy for %s, then %s, %v", busy, now, err)
	}
	if after.RSSBytes < 1<<20 || after.PeakRSSBytes < after.RSSBytes/2 {
		t.Errorf("memory of this process: %+v", after)
	}
	if _, err := UsageOf(1 << 30); err == nil {
		t.Error("usage of a process that does not exist")
	}
}

func TestChildPid(t *testing.T) {
	if _, err := ChildPid("sleep"); err == nil {
		t.Fatal("found a child that was not started")
	}
	command := exec.Command("sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait() // it was killed
	}()
	if pid, err := ChildPid("sleep"); err != nil || pid != command.Process.Pid {
		t.Errorf("found %d, %v; want %d", pid, err, command.Process.Pid)
	}
}
