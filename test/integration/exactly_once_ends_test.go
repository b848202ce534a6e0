package integration

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// endJob copies $in to an output of its own, exactly-once, with an id prefix of its own; the record of value
// POISON fails it.
const endJob = `name: ${name-$job}
parallelism: 1
checkpoint: {interval: 200ms}
restart: {strategy: none}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: BOUNDED, format: string, properties: {bootstrap.servers: '$brokers'}}}
operators:
  copy: {from: in, map: {value: '100 / (int(value) - POISON) > 1000 ? "" : value'}}
sinks:
  out: {from: copy, kafka: {topic: 'OUT', guarantee: exactly-once, partitioner: preserve, transactionalIdPrefix: PREFIX, properties: {bootstrap.servers: '$brokers'}}}
`

// endTotal records are fed while jobs end; poison is the one that the failing job fails on, and boundAt the
// end of the bounded one.
const (
	endTotal = 30_000
	poison   = 5000
	boundAt  = 4000
)

// submitEnd submits the endJob whose output topic is out.
func (r *rig) submitEnd(t *testing.T, out, bounded string, poison int, args ...string) string {
	t.Helper()
	return r.submit(t, strings.NewReplacer("${name-$job}", "${"+out+"-job}", "OUT", "$"+out, "BOUNDED", bounded,
		"POISON", fmt.Sprint(poison), "PREFIX", r.topic("ids-")).Replace(endJob), args...)
}

// everyEnd: five jobs read the same input and end each in its way. However a job ends, what its last
// checkpoint covers is in the output, nothing else is, and no reader waits for a transaction.
func everyEnd(t *testing.T, r *rig) {
	outs := []string{"finished", "stopped", "drained", "failed", "canceled"}
	r.create(t, 1, append([]string{"in", "heir"}, outs...)...)
	r.startLogged(t)
	r.StartTaskManager(t, "tm-1", 6)
	finish := r.feed(t, "in", 1, 7, 0, endTotal)
	const never = -1
	ids := map[string]string{
		"finished": r.submitEnd(t, "finished", fmt.Sprintf("{offsets: {'$in': {0: %d}}}", boundAt), never),
		"stopped":  r.submitEnd(t, "stopped", "none", never),
		"drained":  r.submitEnd(t, "drained", "none", never),
		"failed":   r.submitEnd(t, "failed", "none", poison),
		"canceled": r.submitEnd(t, "canceled", "none", never),
	}
	for _, out := range outs[1:3] {
		r.WaitFor(t, ids[out], "past some records", patience, func(j *jobStatus) bool { return r.read(j) > 1000 })
	}
	r.MustSluice(t, "stop", ids["stopped"])
	r.MustSluice(t, "stop", ids["drained"], "--drain")
	ended := map[string]jobStatus{}
	for out, state := range map[string]string{"finished": "FINISHED", "stopped": "STOPPED", "drained": "STOPPED", "failed": "FAILED"} {
		ended[out] = r.WaitState(t, ids[out], state, patience)
		r.checkEnd(t, out, ended[out])
	}
	if n := r.prefixOf(t, "finished"); n != boundAt {
		t.Errorf("the bounded job wrote %d records, want %d", n, boundAt)
	}
	if n := r.prefixOf(t, "failed"); n == 0 || n > poison {
		t.Errorf("the failed job wrote %d records, the record %d is poisoned", n, poison)
	}
	if f := ended["failed"].Failure; f == nil || f.Class != "user" || !strings.Contains(f.Message, fmt.Sprintf("offset %d", poison)) {
		t.Errorf("the failed job fails with %+v", f)
	}
	r.checkPrefix(t)
	r.cancelAndKill(t, ids["canceled"])
	finish()
	r.inherit(t, ids["stopped"], ended["stopped"])
}

// checkEnd: the output of a job that has ended is what its newest checkpoint covers.
func (r *rig) checkEnd(t *testing.T, out string, j jobStatus) {
	t.Helper()
	r.waitClosed(t, closeLimit, out)
	if n, covered := r.prefixOf(t, out), r.read(&j); n != covered {
		t.Errorf("%s: %d records out, though checkpoint %d covers %d", out, n, j.LatestID(), covered)
	}
	if j.Checkpoints.Latest == nil || !j.Checkpoints.Latest.Committed {
		t.Errorf("%s ended with a checkpoint that is not committed: %s", out, j)
	}
}

// cancelAndKill: a cancelled job does not come back, also when the job manager is killed right after.
func (r *rig) cancelAndKill(t *testing.T, id string) {
	t.Helper()
	before := r.Job(t, id)
	r.MustSluice(t, "cancel", id)
	r.Kill9(t, r.JobManager())
	r.startLogged(t)
	canceled := r.WaitState(t, id, "CANCELED", patience)
	r.checkEnd(t, "canceled", canceled)
	if canceled.Attempt != before.Attempt {
		t.Errorf("attempt %d of the cancelled job began after its end at %d", canceled.Attempt, before.Attempt)
	}
}

// inherit continues a stopped job with another name and output and a higher parallelism: together they wrote
// every record once.
func (r *rig) inherit(t *testing.T, id string, stopped jobStatus) {
	t.Helper()
	bounded := fmt.Sprintf("{offsets: {'$in': {0: %d}}}", endTotal)
	heir := r.submitEnd(t, "heir", bounded, -1, "--set", "parallelism=2", "--from-checkpoint", fmt.Sprintf("%s/%d", id, stopped.LatestID()))
	r.WaitState(t, heir, "FINISHED", patience)
	r.waitClosed(t, closeLimit, "heir")
	first := r.read(&stopped)
	for i, record := range r.kafka.Read(t, r.topic("heir")) {
		if want := fmt.Sprint(first + int64(i)); string(record.Value) != want {
			t.Fatalf("record %d of the heir is %q, want %s", i, record.Value, want)
		}
	}
	r.waitVisible(t, "heir", endTotal-first, 0)
	if job := r.Job(t, r.prefix+"canceled-job"); job.State != "CANCELED" {
		t.Errorf("the cancelled job came back as %s", job.State)
	}
}

// checkPrefix: the transactional ids begin with the prefix of the job file, so that access rules can name
// them.
func (r *rig) checkPrefix(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	listed, err := kadm.NewClient(r.kafka.Client(t)).ListTransactions(ctx, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, id := range listed.TransactionalIDs() {
		if strings.HasPrefix(id, r.topic("ids-")) {
			count++
		}
	}
	if count < 5*4 {
		t.Errorf("%d transactional ids begin with %s, want at least 4 of each of 5 jobs", count, r.topic("ids-"))
	}
}

// cancelHung cancels a job whose task manager does not answer. The job ends when the lease of the task
// manager is over; when that goes on, it adds nothing.
func cancelHung(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.startLogged(t)
	victim := r.StartTaskManager(t, "tm-1", 1)
	finish := r.feed(t, "in", 1, 7, 0, endTotal)
	id := r.submitEnd(t, "out", "none", -1)
	r.WaitFor(t, id, "past some records", patience, func(j *jobStatus) bool { return r.read(j) > 500 })
	if err := victim.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.MustSluice(t, "cancel", id)
	canceled := r.WaitState(t, id, "CANCELED", shortLease+closeLimit)
	t.Logf("CANCELED %d ms after the task manager hung", time.Since(began).Milliseconds())
	r.waitClosed(t, shortLease+closeLimit-time.Since(began), "out")
	if err := victim.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.create(t, 1, "next")
	next := r.submitEnd(t, "next", "none", -1) // runs when the task manager has cleaned up and come back
	r.WaitFor(t, next, "past some records", patience, func(j *jobStatus) bool { return r.read(j) > 500 })
	finish()
	r.checkEnd(t, "out", canceled)
	r.MustSluice(t, "cancel", next)
	r.checkEnd(t, "next", r.WaitState(t, next, "CANCELED", patience))
}

func exactlyOnceRefusals(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.start(t)
	job := exactlyOnce(copyJob, "200ms")
	r.refused(t, strings.Replace(job, "checkpoint: {interval: 200ms}\n", "", 1), 2, "exactly-once", "checkpoint.interval")
	long := strings.Replace(job, "max.request.size: 4194304", "transaction.timeout.ms: 900001", 1)
	r.refused(t, long, 1, "transaction.timeout.ms", "900001", "transaction.max.timeout.ms")
	short := strings.Replace(job, "max.request.size: 4194304", "transaction.timeout.ms: 60000", 1)
	r.refused(t, short, 2, "transaction.timeout.ms", "60000", "2m")
}
