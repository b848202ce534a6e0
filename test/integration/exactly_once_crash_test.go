package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// decision is a line of the decision log; what it does not say is empty.
type decision struct {
	Event        string   `json:"event"`
	Attempt      int64    `json:"attempt"`
	Checkpoint   int64    `json:"checkpoint"`
	Transaction  string   `json:"transaction"`
	Transactions []string `json:"transactions"`
	ID           string   `json:"id"`
}

// decisionLog is the file that startLogged lets job managers append their decisions to.
func (r *rig) decisionLog() string { return filepath.Join(r.DataDir(), "..", "decisions.jsonl") }

// startLogged starts the job manager with a decision log and a short heartbeat timeout: after a restart an end
// waits for the leases of task managers that may be anywhere.
func (r *rig) startLogged(t *testing.T) {
	t.Helper()
	r.StartJobManager(t, "--decision-log", r.decisionLog(), "--heartbeat-timeout", shortHeartbeat.String())
}

// decisions reads the decision log; a last line that a crash has cut is left out.
func (r *rig) decisions(t *testing.T) (list []decision) {
	t.Helper()
	file, err := os.Open(r.decisionLog())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var d decision
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			t.Logf("%.200s: %v", lines.Bytes(), err)
			continue
		}
		list = append(list, d)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// arrows are where the job manager is killed, and at which passage of its life. Each start of it restores,
// fences, hands out ids and goes on with checkpoints, so all are met within seconds.
var arrows = []string{
	"jm/before-persist=crash@2", "jm/between-witness=crash@12", "jm/after-persist=crash@2",
	"jm/before-commit=crash@3", "jm/after-commit=crash@3", "jm/before-mark=crash@2", "jm/after-mark=crash@2",
	"jm/before-announce=crash@2", "jm/before-fence=crash@3", "jm/before-hand-out=crash@1", "jm/after-hand-out=crash@1",
	"jm/before-retention=crash@4",
}

const crashTotal = 120_000

// crashAtEveryArrow kills the job manager at each of the arrows in turn, under load. What was complete is
// committed exactly once by the next one, from what is on disk.
func crashAtEveryArrow(t *testing.T, r *rig) {
	r = newRigOf(t, failing, r.kafka)
	r.create(t, faultPartitions, "in", "out")
	finish := r.feed(t, "in", faultPartitions, faultKeys, 0, crashTotal)
	var id string
	for _, arrow := range arrows {
		r.SetEnvironment("SLUICE_FAILPOINTS=" + arrow)
		r.startLogged(t)
		if id == "" {
			r.SetEnvironment() // the task managers do not fail
			r.StartTaskManager(t, "tm-1", 2)
			id = r.submit(t, exactlyOnce(countJob(2, faultPartitions, crashTotal), "200ms"))
		}
		began := time.Now()
		select {
		case <-r.JobManager().Done():
			t.Logf("%s after %d ms", arrow, time.Since(began).Milliseconds())
		case <-time.After(patience):
			t.Fatalf("the job manager did not come to %s", arrow)
		}
	}
	r.SetEnvironment()
	r.startLogged(t)
	finish()
	r.WaitState(t, id, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "out")
	r.checkCounts(t, "out", faultKeys, crashTotal, exactly)
	checkDecisions(t, r.decisions(t), len(arrows)+1)
}

// workerArrows are where a task manager is killed, or what it does fails.
var workerArrows = []string{
	"tm/barrier=crash@3", "tm/snapshot=crash@3", "tm/seal=crash@3", "tm/flushed=crash@3", "tm/send-ack=crash@3",
	"tm/before-init-producer=crash@7", "tm/after-init-producer=crash@7", "tm/after-init-producer=error@7",
	"tm/seal=error@3", "tm/flushed=error@3",
}

// crashWorkerAtEveryArrow kills the task manager at each of its arrows in turn, or lets the step fail there.
func crashWorkerAtEveryArrow(t *testing.T, r *rig) {
	r = newRigOf(t, failing, r.kafka)
	r.create(t, faultPartitions, "in", "out")
	finish := r.feed(t, "in", faultPartitions, faultKeys, 0, crashTotal)
	r.startLogged(t)
	job := strings.Replace(countJob(2, faultPartitions, crashTotal), "initial: 0s", "initial: 0s, max: 100ms, attempts: 1000", 1)
	id := r.submit(t, exactlyOnce(job, "200ms"))
	var worker *process.Process
	for i, arrow := range workerArrows {
		r.SetEnvironment("SLUICE_FAILPOINTS=" + arrow)
		worker = r.StartTaskManager(t, fmt.Sprintf("tm-%d", i), 2)
		met := func() bool { return strings.Contains(worker.Stderr(), "failpoint "+strings.SplitN(arrow, "=", 2)[0]) }
		r.WaitFor(t, id, "at "+arrow, patience, func(*jobStatus) bool { return met() })
		now := r.Job(t, id)
		if strings.Contains(arrow, "error") {
			r.WaitCheckpoint(t, id, now.LatestID()+2, patience)
			r.Kill9(t, worker)
		}
		<-worker.Done()
	}
	r.SetEnvironment()
	r.StartTaskManager(t, "tm-last", 2)
	finish()
	r.WaitState(t, id, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "out")
	r.checkCounts(t, "out", faultKeys, crashTotal, exactly)
}

// crashAtTheEnd kills the job manager while a job is being stopped or cancelled. The next one ends the job,
// and the output is what its newest checkpoint covers.
func crashAtTheEnd(t *testing.T, r *rig) {
	const records = 200
	r = newRigOf(t, failing, r.kafka)
	r.create(t, 1, "in")
	for i, c := range []struct{ verb, crash, state string }{
		{"stop", "jm/before-commit=crash@1", "STOPPED"}, {"stop", "jm/after-mark=crash@1", "STOPPED"},
		{"stop", "jm/before-fence=crash@2", "STOPPED"}, {"cancel", "jm/before-fence=crash@2", "CANCELED"},
	} {
		out := fmt.Sprintf("out-%d", i)
		r.create(t, 1, out)
		r.SetEnvironment("SLUICE_FAILPOINTS=" + c.crash)
		r.startLogged(t)
		r.SetEnvironment()
		r.StartTaskManager(t, fmt.Sprintf("tm-%d", i), 1)
		job := strings.NewReplacer("name: $name", "name: $"+out, "'$out'", "'$"+out+"'", "earliest", "latest").Replace(endless(copyJob))
		id := r.submit(t, exactlyOnce(job, "60s"))
		r.WaitCheckpoint(t, id, 1, patience) // the first two name no transaction, so the last one is the first to be committed
		r.kafka.Produce(t, r.numbered("in", 1, 7, i*records, (i+1)*records))
		r.WaitFor(t, id, "behind the input", patience, func(j *jobStatus) bool { return j.Vertices[0].Subtasks[0].RecordsIn == records })
		r.Sluice(t, c.verb, id) // the crash may come before the answer
		select {
		case <-r.JobManager().Done():
		case <-time.After(patience):
			t.Fatalf("%s: the job manager did not come to %s", c.verb, c.crash)
		}
		r.startLogged(t)
		ended := r.WaitState(t, id, c.state, patience)
		r.waitClosed(t, closeLimit, out)
		want := int64(0)
		if c.verb == "stop" {
			want = records
		}
		r.waitVisible(t, out, want, 0)
		if at := r.position(&ended, "in", 0); at != int64(i*records)+want {
			t.Errorf("%s, %s: the newest checkpoint is at offset %d, want %d", c.verb, c.crash, at, int64(i*records)+want)
		}
		r.Term(t, r.JobManager())
		r.Term(t, r.TaskManager(fmt.Sprintf("tm-%d", i)))
	}
}

// checkDecisions: every kind of decision is in the log; a transaction is committed when a checkpoint that
// names it is durable, and not again when it is marked; a checkpoint is announced when all its transactions
// are marked; nothing that was complete is left.
func checkDecisions(t *testing.T, list []decision, starts int) {
	t.Helper()
	seen := map[string]int{}
	marked := map[string]bool{}
	completed := map[int64][]string{} // of this life of the job manager, and not announced
	acked, durable := map[string]bool{}, map[string]bool{}
	for _, d := range list {
		seen[d.Event]++
		switch d.Event {
		case "start":
			clear(completed)
			maps.Copy(durable, acked) // the life before may have ended between the write and the line that tells of it
		case "ack":
			for _, key := range d.Transactions {
				acked[key] = true
			}
		case "completed":
			completed[d.Checkpoint] = d.Transactions
			for _, key := range d.Transactions {
				durable[key] = true
			}
		case "committed":
			if !durable[d.Transaction] {
				t.Errorf("%s was committed before its checkpoint was durable", d.Transaction)
			}
			if marked[d.Transaction] {
				t.Errorf("%s was committed again after its mark", d.Transaction)
			}
		case "marked":
			for _, key := range d.Transactions {
				marked[key] = true
			}
		case "announced":
			for _, key := range completed[d.Checkpoint] {
				if !marked[key] {
					t.Errorf("checkpoint %d was announced before the mark of %s", d.Checkpoint, key)
				}
			}
			delete(completed, d.Checkpoint)
		}
	}
	for _, event := range []string{"start", "state", "deploy", "handedOut", "trigger", "ack", "completed", "committed", "marked", "announced", "fenced"} {
		if seen[event] == 0 {
			t.Errorf("the decision log has no line of %s: %v", event, seen)
		}
	}
	if seen["start"] != starts {
		t.Errorf("%d starts in the decision log, want %d", seen["start"], starts)
	}
	if len(completed) > 0 {
		t.Errorf("completed and never announced: %v", completed)
	}
	t.Logf("%d decisions: %v", len(list), seen)
}
