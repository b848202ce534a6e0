package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

func TestFaults(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"task manager killed with spare slots", killWithSpare},
		{"task manager killed without spare slots", killWithoutSpare},
		{"task manager hangs and comes back", taskManagerHangs},
		{"job manager killed", killJobManager},
		{"everything killed", killEverything},
		{"failed checkpoint, then a task manager is lost", failedCheckpoint},
		{"connection between task manager and job manager is cut", cutConnection},
		{"orderly end", orderlyEnd},
	})
}

// faultTotal records over faultPartitions are the input of a fault story; half of them come after the fault.
const (
	faultTotal      = 40_000
	faultPartitions = 4
	faultKeys       = 101
)

// half feeds the first or the second half of the input.
func (r *rig) half(t *testing.T, second bool) {
	t.Helper()
	from, to := 0, faultTotal/2
	if second {
		from, to = faultTotal/2, faultTotal
	}
	r.kafka.Produce(t, r.numbered("in", faultPartitions, faultKeys, from, to))
}

// faultJob starts the counting job of a fault story and waits until it has passed a checkpoint with records.
func (r *rig) faultJob(t *testing.T, parallelism int) string {
	t.Helper()
	r.create(t, faultPartitions, "in", "out")
	r.half(t, false)
	id := r.submit(t, countJob(parallelism, faultPartitions, faultTotal))
	r.WaitFor(t, id, "past a checkpoint with records", patience, func(j *jobStatus) bool { return r.read(j) > 0 })
	return id
}

// finishFault feeds the rest and checks that every key was counted exactly. Output may be repeated.
func (r *rig) finishFault(t *testing.T, id string) jobStatus {
	t.Helper()
	r.half(t, true)
	job := r.WaitState(t, id, "FINISHED", patience)
	r.checkCounts(t, "out", faultKeys, faultTotal, atLeast)
	return job
}

func killWithSpare(t *testing.T, r *rig) {
	r.start(t, 1, 1, 1, 1)
	id := r.faultJob(t, 2)
	before := r.Job(t, id)
	victim := before.Vertices[0].Subtasks[0].TaskManager
	r.Kill9(t, r.TaskManager(victim))
	began := time.Now()
	again := r.WaitFor(t, id, "running again", patience, func(j *jobStatus) bool { return j.Attempt > before.Attempt && j.State == "RUNNING" })
	t.Logf("RUNNING again %d ms after kill -9 of %s, from checkpoint %d", time.Since(began).Milliseconds(), victim, again.Checkpoints.Restored)
	if again.Checkpoints.Restored < before.LatestID() {
		t.Errorf("restored checkpoint %d, though %d was complete before", again.Checkpoints.Restored, before.LatestID())
	}
	job := r.finishFault(t, id)
	if job.Restarts != 1 {
		t.Errorf("%d restarts, want 1", job.Restarts)
	}
}

func killWithoutSpare(t *testing.T, r *rig) {
	r.start(t, 1, 1)
	id := r.faultJob(t, 2)
	before := r.Job(t, id)
	r.Kill9(t, r.TaskManager("tm-2"))
	waiting := r.WaitState(t, id, "WAITING_FOR_SLOTS", patience)
	if !strings.Contains(waiting.Slots.Explain, "need 2, have 1") {
		t.Errorf("the job explains its waiting as %q, want need 2, have 1", waiting.Slots.Explain)
	}
	r.StartTaskManager(t, "tm-3", 1)
	began := time.Now()
	again := r.WaitState(t, id, "RUNNING", patience)
	took := time.Since(began)
	t.Logf("RUNNING %d ms after the slot was there, from checkpoint %d", took.Milliseconds(), again.Checkpoints.Restored)
	if took > time.Second {
		t.Errorf("restart took %s after the slot was there, want less than a second", took)
	}
	if again.Checkpoints.Restored < before.LatestID() {
		t.Errorf("restored checkpoint %d, though %d was complete before", again.Checkpoints.Restored, before.LatestID())
	}
	r.finishFault(t, id)
}

// taskManagerHangs stops a task manager like a long pause of the machine. When it comes back, its old
// subtasks must not add to what the new attempt does.
func taskManagerHangs(t *testing.T, r *rig) {
	r.start(t, 1, 1, 1)
	id := r.faultJob(t, 2)
	before := r.Job(t, id)
	victim := r.TaskManager(before.Vertices[0].Subtasks[0].TaskManager)
	if err := victim.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.WaitFor(t, id, "running elsewhere", patience, func(j *jobStatus) bool { return j.Attempt > before.Attempt && j.State == "RUNNING" })
	t.Logf("RUNNING elsewhere %d ms after the task manager hung", time.Since(began).Milliseconds())
	if err := victim.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.finishFault(t, id)
	if !victim.Running() {
		t.Error("the task manager ended; it should have cancelled its subtasks and gone on")
	}
}

func killJobManager(t *testing.T, r *rig) {
	r.start(t, 1, 1)
	id := r.faultJob(t, 2)
	before := r.Job(t, id)
	r.Kill9(t, r.JobManager())
	r.StartJobManager(t)
	began := time.Now()
	again := r.WaitFor(t, id, "running again by itself", patience, func(j *jobStatus) bool { return j.Attempt > before.Attempt && j.State == "RUNNING" })
	t.Logf("RUNNING %d ms after the job manager was back, from checkpoint %d", time.Since(began).Milliseconds(), again.Checkpoints.Restored)
	if again.Checkpoints.Restored < before.LatestID() {
		t.Errorf("restored checkpoint %d, though %d was complete before", again.Checkpoints.Restored, before.LatestID())
	}
	r.finishFault(t, id)
}

func killEverything(t *testing.T, r *rig) {
	r.start(t, 1, 1)
	id := r.faultJob(t, 2)
	r.Kill9(t, r.JobManager())
	r.Kill9(t, r.TaskManager("tm-1"))
	r.Kill9(t, r.TaskManager("tm-2"))
	r.StartJobManager(t)
	r.WaitState(t, id, "WAITING_FOR_SLOTS", patience)
	r.StartTaskManager(t, "tm-1", 2)
	r.WaitState(t, id, "RUNNING", patience)
	r.finishFault(t, id)
}

// failedCheckpoint makes state files impossible for a while. The job goes on, its checkpoints fail; when
// the fault is over they complete again, and a task manager is lost: nothing may be missing.
func failedCheckpoint(t *testing.T, r *rig) {
	const keys, total = 60_000, 120_000 // state above the inline limit of 256 KiB a subtask
	r.create(t, faultPartitions, "in", "out")
	r.Unprivileged(t)
	r.start(t, 1, 1, 1)
	r.kafka.Produce(t, r.numbered("in", faultPartitions, keys, 0, keys))
	job := strings.Replace(countJob(2, faultPartitions, total), "interval: 100ms", "interval: 300ms, tolerableFailures: 1000", 1)
	id := r.submit(t, job)
	healthy := r.WaitFor(t, id, "past the first half", patience, func(j *jobStatus) bool { return r.read(j) == keys })
	restore := r.breakBlobs(t)
	failing := r.WaitFor(t, id, "past a failed checkpoint", patience, func(j *jobStatus) bool { return j.Checkpoints.Failed > healthy.Checkpoints.Failed })
	if failing.State != "RUNNING" || failing.Restarts != 0 {
		t.Errorf("a failed checkpoint made the job %s with %d restarts", failing.State, failing.Restarts)
	}
	r.kafka.Produce(t, r.numbered("in", faultPartitions, keys, keys, keys+keys/2))
	restore()
	r.WaitFor(t, id, "past a complete checkpoint", patience, func(j *jobStatus) bool { return r.read(j) == keys+keys/2 })
	r.Kill9(t, r.TaskManager(r.Job(t, id).Vertices[0].Subtasks[0].TaskManager))
	r.kafka.Produce(t, r.numbered("in", faultPartitions, keys, keys+keys/2, total))
	r.WaitState(t, id, "FINISHED", patience)
	r.checkCounts(t, "out", keys, total, atLeast)
}

// breakBlobs makes the directory of large state files and those of the jobs in it read-only. The
// returned function repairs them.
func (r *rig) breakBlobs(t *testing.T) (restore func()) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(r.DataDir(), "blobs", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no state files in %s: %v", r.DataDir(), err)
	}
	dirs = append(dirs, filepath.Join(r.DataDir(), "blobs"))
	allow := func(mode os.FileMode) {
		t.Helper()
		for _, dir := range dirs {
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	allow(0o500)
	return func() { allow(0o700) }
}

// cutConnection resets the connection to the job manager without the death of a process: the session
// is resumed, the job does not restart.
func cutConnection(t *testing.T, r *rig) {
	r.StartJobManager(t)
	proxy := newProxy(t, r.Addr())
	r.StartTaskManager(t, "tm-1", 2, "--jobmanager", proxy.addr())
	id := r.faultJob(t, 2)
	before := r.Job(t, id)
	for range 3 {
		if n := proxy.cut(); n == 0 {
			t.Fatal("no connection went through the proxy")
		}
		job := r.Job(t, id)
		r.WaitCheckpoint(t, id, job.LatestID()+1, patience)
	}
	after := r.Job(t, id)
	if after.Attempt != before.Attempt || after.Restarts != 0 {
		t.Errorf("attempt %d became %d after connections were cut", before.Attempt, after.Attempt)
	}
	r.finishFault(t, id)
}

// orderlyEnd: SIGTERM ends each daemon within 10 s with code 0, and the job goes on after the start.
func orderlyEnd(t *testing.T, r *rig) {
	r.start(t, 1, 1)
	id := r.faultJob(t, 2)
	r.Term(t, r.TaskManager("tm-1"))
	r.Term(t, r.JobManager())
	r.Term(t, r.TaskManager("tm-2"))
	r.StartJobManager(t)
	r.StartTaskManager(t, "tm-1", 2)
	r.finishFault(t, id)
}

// The broker is killed under running jobs, so each kind gets a broker of its own. Neither job restarts, and
// the transactions of the exactly-once one are neither lost nor doubled.
func TestBrokerRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	for _, kind := range kafkaenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kind})
			r, e := newRig(t, kafka), newRig(t, kafka)
			r.start(t, 2)
			e.start(t, 2)
			id := r.faultJob(t, 2)
			exact := e.exactJob(t)
			// Not before the markers of what was committed are written: a single Kafka 4.3.1 that was killed between
			// prepare and the markers came back with "Couldn't find leader endpoint for partitions … likely deleted
			// already and hence can be skipped", said that all was committed, and left the transactions open. Brokers
			// that die at any time are a matter of test/chaos, where there are three. See docs/EXACTLY_ONCE.md.
			e.waitVisible(t, "out", faultTotal/2, patience)
			kafka.Kill(t, 0)
			time.Sleep(2 * time.Second) // the jobs are to feel it
			for rig, id := range map[*rig]string{r: id, e: exact} {
				if job := rig.Job(t, id); job.State != "RUNNING" && job.State != "RESTARTING" && job.State != "DEPLOYING" {
					t.Errorf("the job is %s without its broker, want it to retry", job.State)
				}
			}
			kafka.Restart(t, 0)
			checkRestarts(t, r.finishFault(t, id))
			e.half(t, true)
			checkRestarts(t, e.WaitState(t, exact, "FINISHED", patience))
			e.waitClosed(t, closeLimit, "out")
			e.checkCounts(t, "out", faultKeys, faultTotal, exactly)
		})
	}
}

// exactJob is faultJob with exactly-once.
func (r *rig) exactJob(t *testing.T) string {
	t.Helper()
	r.create(t, faultPartitions, "in", "out")
	r.half(t, false)
	id := r.submit(t, exactlyOnce(countJob(2, faultPartitions, faultTotal), "200ms"))
	r.WaitFor(t, id, "past a checkpoint with records", patience, func(j *jobStatus) bool { return r.read(j) > 0 })
	return id
}

func checkRestarts(t *testing.T, j jobStatus) {
	t.Helper()
	if j.Restarts > 0 {
		t.Errorf("a restart of the broker restarted job %s %d times: %+v", j.Name, j.Restarts, j.Failure)
	}
}
