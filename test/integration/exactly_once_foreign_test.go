package integration

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// fence takes transactional ids away from their owner, as a foreign producer does that uses them too: it
// asks for a producer id under each, which aborts what is open.
func (r *rig) fence(t *testing.T, ids ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	for _, id := range ids {
		client := r.kafka.Client(t, kgo.TransactionalID(id))
		all.Go(func() {
			if _, _, err := client.ProducerID(ctx); err != nil {
				t.Errorf("fencing %s: %v", id, err)
			}
		})
	}
	all.Wait()
}

// idOf is the transactional id in the name of a transaction, ID@PRODUCER:EPOCH.
func idOf(transaction string) string {
	id, _, _ := strings.Cut(transaction, "@")
	return id
}

// waitDecision waits for a line of the decision log.
func (r *rig) waitDecision(t *testing.T, what string, wanted func(decision) bool) decision {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pollEvery) {
		for _, d := range r.decisions(t) {
			if wanted(d) {
				return d
			}
		}
	}
	t.Fatalf("the decision log never says %s", what)
	return decision{}
}

const (
	// foreignTotal records are copied while others use the ids of the job.
	foreignTotal = 20_000
	// foreignInterval is so long that a foreign producer meets transactions that no checkpoint names yet.
	foreignInterval = "4s"
)

// copyTwice copies $in to a topic of this case with two subtasks, as a job of that topic's name, up to a
// total or for ever if that is 0.
func copyTwice(out string, total int, interval string) string {
	bounded := "bounded: none"
	if total > 0 {
		bounded = boundedAt(2, total)
	}
	return exactlyOnce(strings.NewReplacer("parallelism: 1", "parallelism: 2", "bounded: latest", bounded,
		"name: $name", "name: $"+out, "'$out'", "'$"+out+"'").Replace(copyJob), interval)
}

// fenceAttempt takes the ids of the first sink subtask of an attempt, right after a checkpoint of it was
// committed: not its first one, which the second follows within a fraction of the interval.
func (r *rig) fenceAttempt(t *testing.T, attempt int64) {
	t.Helper()
	named := r.waitDecision(t, "completed with transactions", func(d decision) bool { return d.Event == "completed" && len(d.Transactions) > 0 })
	first := r.waitDecision(t, "completed", func(d decision) bool { return d.Event == "completed" && d.Attempt == attempt })
	done := r.waitDecision(t, "completed a second time", func(d decision) bool {
		return d.Event == "completed" && d.Attempt == attempt && d.Checkpoint > first.Checkpoint && d.Checkpoint >= named.Checkpoint
	})
	r.waitDecision(t, "announced", func(d decision) bool { return d.Event == "announced" && d.Checkpoint == done.Checkpoint })
	family := strings.Split(idOf(named.Transactions[0]), "/") // ends in ATTEMPT/N
	family = family[:len(family)-2]
	var ids []string
	for n := range 4 {
		ids = append(ids, fmt.Sprintf("%s/%d/%d", strings.Join(family, "/"), attempt, n))
	}
	r.fence(t, ids...)
}

// fencedOnce: the attempt fails, the next one with ids of its own goes on, exactly-once.
func fencedOnce(t *testing.T, r *rig) {
	r.create(t, 2, "in", "out")
	r.startLogged(t)
	r.StartTaskManager(t, "tm-1", 2)
	finish := r.feed(t, "in", 2, 7, 0, foreignTotal)
	id := r.submit(t, copyTwice("out", foreignTotal, foreignInterval))
	r.fenceAttempt(t, 1)
	again := r.WaitFor(t, id, "running again", patience, func(j *jobStatus) bool { return j.Attempt == 2 && j.State == "RUNNING" })
	if again.Failure == nil || again.Failure.Class != "fenced" || !strings.Contains(again.Failure.Message, "fenced by another producer") {
		t.Errorf("the attempt failed with %+v, want the class fenced", again.Failure)
	}
	finish()
	job := r.WaitState(t, id, "FINISHED", patience)
	if job.Restarts != 1 {
		t.Errorf("%d restarts, want 1", job.Restarts)
	}
	r.waitClosed(t, closeLimit, "out")
	r.checkCopies(t, "out", foreignTotal, exactly)
}

// fencedThreeTimes: somebody who takes the ids of every attempt ends the job, with a hint; what was complete
// stays, once.
func fencedThreeTimes(t *testing.T, r *rig) {
	r.create(t, 2, "in", "out")
	r.startLogged(t)
	r.StartTaskManager(t, "tm-1", 2)
	finish := r.feed(t, "in", 2, 7, 0, 10*foreignTotal)
	defer finish()
	id := r.submit(t, copyTwice("out", 0, foreignInterval))
	for attempt := range int64(3) {
		r.fenceAttempt(t, attempt+1)
	}
	job := r.WaitState(t, id, "FAILED", patience)
	if job.Attempt != 3 || job.Failure == nil || job.Failure.Class != "fenced" || !strings.Contains(job.Failure.Message, "something else uses the transactional ids") {
		t.Errorf("the job is %s, want it FAILED in its third attempt with a hint at the foreign producer", job)
	}
	r.waitClosed(t, closeLimit, "out")
	if lost, twice := r.copies(t, 10*foreignTotal, "out"); twice > 0 || int64(10*foreignTotal-lost) != r.read(&job) {
		t.Errorf("%d records out, %d of them twice, want the %d of checkpoint %d", 10*foreignTotal-lost, twice, r.read(&job), job.LatestID())
	}
}

// waysOut are the commands that the message of a loss names, with their checkpoints and what they cost.
var waysOut = regexp.MustCompile("--from-checkpoint (\\S+/\\d+)` loses nothing and writes at most (\\d+) records a second time; " +
	".*--from-checkpoint (\\S+/\\d+)` writes nothing twice and loses at most (\\d+) records")

// sealedTransactionLost: a foreign producer aborts one of two transactions of a completed checkpoint while no
// job manager is there to commit it. The job says what is lost, and both ways out cost what it says.
func sealedTransactionLost(t *testing.T, r *rig) {
	r = newRigOf(t, failing, r.kafka)
	r.create(t, 2, "in", "out", "back", "on")
	r.SetEnvironment("SLUICE_FAILPOINTS=jm/after-persist=crash@4")
	r.startLogged(t)
	r.SetEnvironment()
	r.StartTaskManager(t, "tm-1", 4)
	finish := r.feed(t, "in", 2, 7, 0, foreignTotal)
	waited := make(chan cluster.Result, 1)
	go func() { waited <- r.Sluice(t, "submit", r.JobFile(t, r.fill(copyTwice("out", 0, "1s"))), "--wait") }()
	select {
	case <-r.JobManager().Done():
	case <-time.After(patience):
		t.Fatal("the job manager did not come to its fourth checkpoint")
	}
	named := map[string]bool{} // by the acks of the checkpoint that is durable
	list := r.decisions(t)
	for _, d := range list {
		if d.Event == "ack" && d.Checkpoint == newestAck(list) {
			for _, key := range d.Transactions {
				named[idOf(key)] = true
			}
		}
	}
	if len(named) != 2 {
		t.Fatalf("the newest checkpoint names %v, want a transaction of each subtask", named)
	}
	for id := range named {
		r.fence(t, id)
		break
	}
	r.startLogged(t)
	result := <-waited
	if result.Code != 5 {
		t.Errorf("exit code %d of a job with a data loss, want 5:\n%s", result.Code, result.Stderr)
	}
	lost := r.Job(t, r.topic("out"))
	if lost.State != "FAILED_DATA_LOSS" || lost.Failure == nil {
		t.Fatalf("the job is %s", lost)
	}
	r.waitClosed(t, closeLimit, "out")
	message := lost.Failure.Message
	if !regexp.MustCompile(regexp.QuoteMeta(r.topic("out")) + `/[01] offsets \d+ to \d+`).MatchString(message) {
		t.Errorf("the message does not name topic, partition and offsets: %s", message)
	}
	finish()
	r.checkWaysOut(t, message)
}

func newestAck(list []decision) (newest int64) {
	for _, d := range list {
		if d.Event == "ack" {
			newest = max(newest, d.Checkpoint)
		}
	}
	return newest
}

// checkWaysOut goes both ways, each into a topic of its own, and compares the cost with what was said.
func (r *rig) checkWaysOut(t *testing.T, message string) {
	t.Helper()
	ways := waysOut.FindStringSubmatch(message)
	if ways == nil {
		t.Fatalf("the message does not name both ways out: %s", message)
	}
	back := r.submit(t, copyTwice("back", foreignTotal, "1s"), "--from-checkpoint", ways[1])
	on := r.submit(t, copyTwice("on", foreignTotal, "1s"), "--from-checkpoint", ways[3])
	r.WaitState(t, back, "FINISHED", patience)
	r.WaitState(t, on, "FINISHED", patience)
	mostTwice, _ := strconv.Atoi(ways[2]) // the expression matches digits only
	mostLost, _ := strconv.Atoi(ways[4])
	lost, twice := r.copies(t, foreignTotal, "out", "back")
	t.Logf("back: %d lost, %d twice (%d said)", lost, twice, mostTwice)
	if lost > 0 || twice == 0 || twice > mostTwice {
		t.Errorf("the way back lost %d records and wrote %d twice, want 0 and 1 to %d", lost, twice, mostTwice)
	}
	lost, twice = r.copies(t, foreignTotal, "out", "on")
	t.Logf("on: %d lost (%d said), %d twice", lost, mostLost, twice)
	if twice > 0 || lost == 0 || lost > mostLost {
		t.Errorf("the way on wrote %d records twice and lost %d, want 0 and 1 to %d", twice, lost, mostLost)
	}
}

// copies counts what is missing and what is there more than once of the numbers 0..want-1 in topics.
func (r *rig) copies(t *testing.T, want int, topics ...string) (lost, twice int) {
	t.Helper()
	seen := map[string]int{}
	for _, name := range topics {
		for _, record := range r.kafka.Read(t, r.topic(name)) {
			seen[string(record.Value)]++
		}
	}
	for i := range want {
		switch n := seen[fmt.Sprint(i)]; {
		case n == 0:
			lost++
		default:
			twice += n - 1
		}
	}
	return lost, twice
}
