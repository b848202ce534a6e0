package clock_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/clock"
)

// asked makes the test program a process that tells the time when it is asked.
const asked = "SLUICE_TELL_THE_TIME"

func TestMain(m *testing.M) {
	if os.Getenv(asked) == "" {
		os.Exit(m.Run())
	}
	began := time.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(time.Now().UnixNano(), int64(time.Since(began)))
	}
}

// The wall clock jumps, the monotonic one does not; both run ahead.
func TestClock(t *testing.T) {
	if !clock.Supported {
		t.Skip("not on this platform")
	}
	process := exec.CommandContext(t.Context(), os.Args[0])
	process.Env = append(os.Environ(), asked+"=1")
	in, err1 := process.StdinPipe()
	out, err2 := process.StdoutPipe()
	if err1 != nil || err2 != nil || process.Start() != nil {
		t.Fatal("the process does not start")
	}
	defer func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := process.Wait(); err != nil {
			t.Error(err)
		}
	}()
	answers := bufio.NewReader(out)
	tell := func() (wall, monotonic time.Duration) {
		t.Helper()
		if _, err := io.WriteString(in, "?\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fscan(answers, &wall, &monotonic); err != nil {
			t.Fatal(err)
		}
		return wall, monotonic
	}
	c, err := clock.Take(process.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var jumped, ahead time.Duration
	for _, step := range []struct {
		jump  int64 // seconds
		ahead time.Duration
	}{{0, 0}, {3600, 0}, {-3600, 0}, {0, 900 * time.Millisecond}, {7200, 990 * time.Millisecond}} {
		began := time.Now()
		wall, monotonic := tell()
		if err := errors.Join(c.Jump(step.jump), c.Ahead(step.ahead)); err != nil {
			t.Fatal(err)
		}
		wallAfter, monotonicAfter := tell()
		took := time.Since(began) // at most so much time went by between the two questions
		moreAhead := step.ahead - ahead
		moreJumped := time.Duration(step.jump)*time.Second - jumped
		if got := monotonicAfter - monotonic - moreAhead; got < 0 || got > took {
			t.Errorf("%+v: %s went by on the monotonic clock beside what was added, want 0 to %s", step, got, took)
		}
		if got := wallAfter - wall - moreAhead - moreJumped; got < 0 || got > took {
			t.Errorf("%+v: %s went by on the wall clock beside what was added, want 0 to %s", step, got, took)
		}
		ahead, jumped = step.ahead, time.Duration(step.jump)*time.Second
	}
	if c.Ahead(time.Second) == nil || c.Ahead(-1) == nil {
		t.Error("clocks can be any time ahead")
	}
}
