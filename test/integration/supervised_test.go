package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

const unitDir = "../../deploy/systemd"

// restartLimit is how long a daemon that is lost stays away under the units of deploy/systemd.
const restartLimit = 2 * time.Second

func TestSupervised(t *testing.T) {
	onEveryKafka(t, []testCase{{"kill -9 of each daemon and of both", supervisedKills}})
}

// TestUnits asks systemd itself, where it is.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("CI skips nothing, and this needs systemd-analyze (package systemd): %v", err)
	}
	if err != nil {
		t.Skipf("SKIPPED, THE UNITS ARE NOT VERIFIED: it needs systemd-analyze (package systemd): %v", err)
	}
	for _, program := range []string{"jobmanager", "taskmanager"} {
		name := "sluice-" + program + ".service"
		text, err := os.ReadFile(filepath.Join(unitDir, name))
		if err != nil {
			t.Fatal(err)
		}
		path, err := binaries.Path(program)
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/"+program, path)), 0o644); err != nil {
			t.Fatal(err)
		}
		if output, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(output) > 0 {
			t.Errorf("%s: %v\n%s", name, err, output)
		}
	}
}

// supervisor keeps a daemon alive as the unit of deploy/systemd tells systemd to.
type supervisor struct {
	*process.Process
	dir string
}

// buildSupervise builds the program that behaves like systemd.
func buildSupervise(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "supervise")
	if output, err := exec.Command("go", "build", "-o", path, "./supervise").CombinedOutput(); err != nil {
		t.Fatalf("building supervise: %v\n%s", err, output)
	}
	return path
}

func (r *rig) supervise(t *testing.T, supervise, program string, args ...string) *supervisor {
	t.Helper()
	path, err := binaries.Path(program)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &supervisor{dir: dir}
	s.Process, err = process.Start(process.Spec{
		Name: "supervise-" + program, Path: supervise, Dir: dir,
		Args: append([]string{filepath.Join(unitDir, "sluice-"+program+".service"), dir, path}, args...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if code, err := s.Stop(20 * time.Second); err != nil || code != 0 {
			t.Errorf("supervise %s: code %d, %v", program, code, err)
		}
		if t.Failed() {
			t.Logf("--- supervised %s ---\n%s", program, s.Tail(16<<10))
			for number := range len(s.events("started")) {
				log, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%02d.log", number+1)))
				t.Logf("start %d: %v\n%.4000s", number+1, err, log)
			}
		}
	})
	s.await(t, 1)
	return s
}

// event is a line of supervise.
type event struct {
	at     time.Time
	number int
	value  int // the process id of a start, the exit code of an end
}

func (s *supervisor) events(kind string) []event {
	var out []event
	for _, line := range strings.Split(s.Stdout(), "\n") {
		f := strings.Fields(line)
		if len(f) != 5 || f[1] != kind {
			continue
		}
		var e event
		ms, err1 := strconv.ParseInt(f[0], 10, 64)
		number, err2 := strconv.Atoi(f[2])
		value, err3 := strconv.Atoi(f[4])
		if err1 == nil && err2 == nil && err3 == nil {
			e.at, e.number, e.value = time.UnixMilli(ms), number, value
			out = append(out, e)
		}
	}
	return out
}

// await waits until the daemon was started so often and returns that start.
func (s *supervisor) await(t *testing.T, starts int) event {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if list := s.events("started"); len(list) >= starts {
			return list[starts-1]
		}
		if time.Now().After(deadline) {
			t.Fatalf("not started %d times within %s:\n%s", starts, patience, s.Tail(4096))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// kill kills the daemon, not its supervisor, as kill -9 does.
func (s *supervisor) kill(t *testing.T) (number int) {
	t.Helper()
	last := s.await(t, len(s.events("started")))
	if err := syscall.Kill(last.value, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return last.number
}

// back checks that the daemon that was killed was started again in time.
func (s *supervisor) back(t *testing.T, number int) {
	t.Helper()
	again := s.await(t, number+1)
	ended := s.events("ended")
	i := slices.IndexFunc(ended, func(e event) bool { return e.number == number })
	if i < 0 || ended[i].value != -1 {
		t.Fatalf("start %d did not end by a signal: %+v", number, ended)
	}
	took := again.at.Sub(ended[i].at)
	t.Logf("started again after %s", took)
	if took > restartLimit {
		t.Errorf("started again after %s, want at most %s", took, restartLimit)
	}
}

// supervisedKills kills each daemon, and then both at once. Nobody but the supervisor starts anything again, and
// the job goes on by itself and stays exact.
func supervisedKills(t *testing.T, r *rig) {
	r.create(t, faultPartitions, "in", "out")
	r.half(t, false)
	supervise := buildSupervise(t)
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	jm := r.supervise(t, supervise, "jobmanager", "--listen", r.Addr(), "--http", r.HTTPAddr(), "--data-dir", r.DataDir())
	tm := r.supervise(t, supervise, "taskmanager", "--jobmanager", r.Addr(), "--id", "tm-1", "--slots", "2",
		"--data-listen", fmt.Sprintf("127.0.0.1:%d", port), "--http", "", "--work-dir", t.TempDir())
	r.waitServing(t)
	id := r.submit(t, exactlyOnce(countJob(2, faultPartitions, faultTotal), "200ms"))
	j := r.WaitFor(t, id, "past a checkpoint with records", patience, func(j *jobStatus) bool { return j.State == "RUNNING" && r.read(j) > 0 })
	// A checkpoint of a later attempt says that the job went on by itself.
	resumed := func(what string) {
		t.Helper()
		began := time.Now()
		attempt, latest := j.Attempt, j.LatestID()
		j = r.WaitFor(t, id, "running again after "+what, patience, func(j *jobStatus) bool {
			return j.State == "RUNNING" && j.Attempt > attempt && j.LatestID() > latest
		})
		t.Logf("%s: attempt %d, first checkpoint %s after the daemon was back", what, j.Attempt, time.Since(began).Round(time.Millisecond))
	}

	tm.back(t, tm.kill(t))
	resumed("the loss of the task manager")
	jm.back(t, jm.kill(t))
	resumed("the loss of the job manager")
	first, second := jm.kill(t), tm.kill(t)
	jm.back(t, first)
	tm.back(t, second)
	resumed("the loss of both")

	r.half(t, true)
	r.WaitState(t, id, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "out")
	r.checkCounts(t, "out", faultKeys, faultTotal, exactly)
}

// waitServing waits until the job manager answers.
func (r *rig) waitServing(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if result := r.Sluice(t, "taskmanagers"); result.Code == 0 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("the job manager does not answer: %s", result.Stderr)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
