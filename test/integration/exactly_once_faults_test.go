package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// faultStory is a counting job under steady load that meets one fault after the other.
type faultStory struct {
	*rig
	id    string
	proxy *proxy
	// workers is how many task managers were started; alive those of one slot that run.
	workers int
	alive   []string
}

const storyTotal = 60_000

func faultsInARow(t *testing.T, r *rig) {
	s := &faultStory{rig: r}
	r.create(t, faultPartitions, "in", "out")
	s.startLogged(t)
	s.proxy = newProxy(t, r.Addr())
	s.startTaskManagers(t, 4)
	finish := r.feed(t, "in", faultPartitions, faultKeys, 0, storyTotal)
	s.id = r.submit(t, exactlyOnce(countJob(2, faultPartitions, storyTotal), "200ms"))
	r.WaitFor(t, s.id, "past a checkpoint with records", patience, func(j *jobStatus) bool { return r.read(j) > 0 })
	for _, fault := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"task manager killed, spare slots", s.killOne},
		{"job manager killed", s.killManager},
		{"connections cut", s.cutAll},
		{"task manager hangs and comes back", s.hang},
		{"all task managers killed after a checkpoint", s.killWorkers},
		{"everything killed", s.killAll},
	} {
		t.Logf("%s at attempt %d", fault.name, r.Job(t, s.id).Attempt)
		fault.do(t)
		if t.Failed() {
			return
		}
	}
	finish()
	r.WaitState(t, s.id, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "out")
	r.checkCounts(t, "out", faultKeys, storyTotal, exactly)
}

func (s *faultStory) startTaskManagers(t *testing.T, count int) {
	t.Helper()
	for range count {
		s.workers++
		id := fmt.Sprintf("tm-%d", s.workers)
		s.StartTaskManager(t, id, 1, "--jobmanager", s.proxy.addr())
		s.alive = append(s.alive, id)
	}
}

// restarted waits until a newer attempt than that of before has completed a checkpoint.
func (s *faultStory) restarted(t *testing.T, before jobStatus) {
	t.Helper()
	began := time.Now()
	again := s.WaitFor(t, s.id, "running again", patience, func(j *jobStatus) bool {
		return j.Attempt > before.Attempt && j.State == "RUNNING" && j.Checkpoints.Restored > 0 && j.LatestID() > j.Checkpoints.Restored
	})
	t.Logf("past a checkpoint again %d ms later, from checkpoint %d", time.Since(began).Milliseconds(), again.Checkpoints.Restored)
	if again.Checkpoints.Restored < before.LatestID() {
		t.Errorf("restored checkpoint %d, though %d was complete before", again.Checkpoints.Restored, before.LatestID())
	}
}

// nextCheckpoints waits until a checkpoint is complete that was triggered after the call.
func (s *faultStory) nextCheckpoints(t *testing.T) {
	t.Helper()
	now := s.Job(t, s.id)
	s.WaitCheckpoint(t, s.id, now.LatestID()+1, patience)
}

func (s *faultStory) killOne(t *testing.T) {
	before := s.Job(t, s.id)
	victim := before.Vertices[0].Subtasks[0].TaskManager
	s.Kill9(t, s.TaskManager(victim))
	for i, id := range s.alive {
		if id == victim {
			s.alive = append(s.alive[:i], s.alive[i+1:]...)
			break
		}
	}
	s.restarted(t, before)
}

func (s *faultStory) killManager(t *testing.T) {
	before := s.Job(t, s.id)
	s.Kill9(t, s.JobManager())
	s.startLogged(t)
	s.restarted(t, before)
}

// cutAll: sessions are resumed, transactional ids and levels are told again, the job does not restart.
func (s *faultStory) cutAll(t *testing.T) {
	before := s.Job(t, s.id)
	for range 2 {
		if s.proxy.cut() == 0 {
			t.Fatal("no connection went through the proxy")
		}
		s.nextCheckpoints(t)
	}
	if after := s.Job(t, s.id); after.Attempt != before.Attempt {
		t.Errorf("attempt %d became %d after connections were cut", before.Attempt, after.Attempt)
	}
}

// hang: the old subtasks come back in the middle of a transaction and must not add to the output.
func (s *faultStory) hang(t *testing.T) {
	before := s.Job(t, s.id)
	victim := s.TaskManager(before.Vertices[0].Subtasks[0].TaskManager)
	if err := victim.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.restarted(t, before)
	if err := victim.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.nextCheckpoints(t)
}

// killWorkers: what a completed checkpoint holds becomes visible while the job only waits for slots, and
// what came after it holds up no reader.
func (s *faultStory) killWorkers(t *testing.T) {
	before := s.Job(t, s.id)
	s.WaitCheckpoint(t, s.id, before.LatestID(), patience)
	for _, id := range s.alive {
		s.Kill9(t, s.TaskManager(id))
	}
	s.alive = nil
	waiting := s.WaitState(t, s.id, "WAITING_FOR_SLOTS", patience)
	s.waitVisible(t, "out", s.read(&waiting), closeLimit)
	s.waitClosed(t, shortLease+closeLimit, "out")
	s.startTaskManagers(t, 2)
	s.restarted(t, waiting)
}

func (s *faultStory) killAll(t *testing.T) {
	before := s.Job(t, s.id)
	s.Kill9(t, s.JobManager())
	for _, id := range s.alive {
		s.Kill9(t, s.TaskManager(id))
	}
	s.alive = nil
	s.startLogged(t)
	s.startTaskManagers(t, 2)
	s.restarted(t, before)
}
