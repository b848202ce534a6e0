package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(Spec{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"WORD=hello"}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill9() })
	return p
}

func TestReadyFieldsAndOutputs(t *testing.T) {
	p := shell(t, `echo first; echo "ready grpc=127.0.0.1:1 http="; echo "$WORD" >&2; exit 3`)
	fields, err := p.Ready(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if fields["grpc"] != "127.0.0.1:1" || fields["http"] != "" {
		t.Errorf("fields %v", fields)
	}
	<-p.Done()
	if p.ExitCode() != 3 || !strings.HasPrefix(p.Stdout(), "first\nready") || p.Stderr() != "hello\n" {
		t.Errorf("code %d, stdout %q, stderr %q", p.ExitCode(), p.Stdout(), p.Stderr())
	}
}

func TestEndBeforeReadyIsAnError(t *testing.T) {
	p := shell(t, "echo the reason >&2; exit 7")
	_, err := p.Ready(10 * time.Second)
	if err == nil || !strings.Contains(err.Error(), "code 7") || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("error %v", err)
	}
}

func TestStopAndKill(t *testing.T) {
	polite := shell(t, "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done")
	if _, err := polite.Ready(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if code, err := polite.Stop(10 * time.Second); err != nil || code != 0 {
		t.Errorf("code %d, error %v", code, err)
	}
	deaf := shell(t, "trap '' TERM; echo ready; while :; do sleep 0.01; done")
	if _, err := deaf.Ready(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := deaf.Stop(50 * time.Millisecond); err == nil || deaf.Running() {
		t.Errorf("running %t, error %v", deaf.Running(), err)
	}
	if err := deaf.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to a process that is gone: %v", err)
	}
}

// A test that is killed must not leave its children behind. The test program runs itself as the parent.
func TestChildDiesWithItsParent(t *testing.T) {
	if dir := os.Getenv("PROCESS_TEST_PARENT"); dir != "" {
		beParent(t, dir)
		return
	}
	dir := t.TempDir()
	parent, err := Start(Spec{
		Name: "parent", Path: os.Args[0], Args: []string{"-test.run=^TestChildDiesWithItsParent$"},
		Env: []string{"PROCESS_TEST_PARENT=" + dir}, Dir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	fields, err := parent.Ready(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(fields["pid"])
	if err != nil {
		t.Fatal(err)
	}
	child, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("child %d: %v", pid, err)
	}
	defer unix.Close(child)
	if err := parent.Kill9(); err != nil {
		t.Fatal(err)
	}
	poll := []unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}} // readable when the process has ended
	if n, err := unix.Poll(poll, 10_000); n != 1 {
		t.Errorf("child %d lives on 10 s after its parent was killed: %v", pid, err)
	}
}

func beParent(t *testing.T, dir string) {
	child, err := Start(Spec{Name: "child", Path: "/bin/sh", Args: []string{"-c", "echo ready; exec sleep 300"}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := child.Ready(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("ready pid=%d\n", child.Pid())
	<-child.Done()
}
