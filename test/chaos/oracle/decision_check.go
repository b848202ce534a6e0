package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Decisions is what a decision log shows.
type Decisions struct {
	// Completed and Failed count checkpoints.
	Completed, Failed int
	// Faults name the rules that were broken, with the number of the line, counted from 1.
	Faults []string
	// Named are the transactions that completed checkpoints name.
	Named []string
}

func (d *Decisions) reasons() []string {
	var t tally
	for _, f := range d.Faults {
		t.add("%s", f)
	}
	return t.reasons("decision")
}

// CheckDecisions checks a decision log against the rules of checkpoints and transactions. It is a function of
// the lines alone. A line may be missing where the job manager was killed: what it had made durable, but not
// yet written to the log, shows by what the next one does, and only that may be concluded.
func CheckDecisions(lines []Decision) Decisions {
	c := checker{jobs: map[string]*jobCheck{}}
	for i, d := range lines {
		c.line = i + 1
		c.check(d)
	}
	for _, id := range slices.Sorted(maps.Keys(c.jobs)) {
		c.atEnd(c.jobs[id])
		c.found.Named = slices.AppendSeq(c.found.Named, maps.Keys(c.jobs[id].named))
	}
	return c.found
}

type checker struct {
	found Decisions
	line  int
	epoch int64
	jobs  map[string]*jobCheck
}

// jobCheck is what the lines so far say of one job.
type jobCheck struct {
	id          string
	state       string
	attempt     int64
	deployed    int64 // checkpoint of the newest deployment
	completed   int64 // highest completed checkpoint
	triggered   int64 // highest triggered checkpoint
	final       bool
	checkpoints map[int64]*checkpointCheck
	named       map[string]int64 // transaction → the checkpoint whose manifest names it
	progress    map[string]progress
	ended       map[string]int64 // transactional id → the newest checkpoint for which one of its transactions was committed
	fenced      map[string]bool  // transactional ids
	handedOut   map[handoutKey]int
	subtasks    map[string]bool   // all that ever acknowledged
	restarted   bool              // the job manager started anew since the first deployment
	announced   int64             // highest announced checkpoint
	published   map[place]int64   // highest one whose offsets were published, by place
	added       map[string]string // partition that was found → its subtask, in the newest attempt
}

// place is where offsets of a source are published. Each goes at its own pace.
type place struct{ source, storage string }

type checkpointCheck struct {
	id, attempt        int64
	acks               map[string][]string // subtask → transactions
	completed, aborted bool
	line               int
}

type handoutKey struct {
	attempt       int64
	sink, subtask string
}

// progress of a named transaction. A crash may hide one step: maybeMarked is a committed one at a start of
// the job manager.
type progress int

const (
	open progress = iota
	committed
	maybeMarked
	marked
	refused
)

// terminal states: nothing comes after them.
var terminal = []string{"FINISHED", "STOPPED", "CANCELED", "FAILED", "FAILED_DATA_LOSS"}

func (c *checker) fault(format string, args ...any) {
	c.found.Faults = append(c.found.Faults, fmt.Sprintf("line %d: ", c.line)+fmt.Sprintf(format, args...))
}

func (c *checker) check(d Decision) {
	if d.Event == "start" {
		c.start(d)
		return
	}
	j := c.jobs[d.Job]
	if j == nil {
		j = &jobCheck{id: d.Job, checkpoints: map[int64]*checkpointCheck{}, named: map[string]int64{}, progress: map[string]progress{}, ended: map[string]int64{},
			fenced: map[string]bool{}, handedOut: map[handoutKey]int{}, subtasks: map[string]bool{}, added: map[string]string{}, published: map[place]int64{}}
		c.jobs[d.Job] = j
	}
	// What arrives is logged before it is judged, so an ack may be late; so may a publication that had begun.
	late := d.Event == "ack" || d.Event == "published"
	if slices.Contains(terminal, j.state) && !late && d.Event != "dropped" && !(d.Event == "state" && d.To == j.state) {
		c.fault("%s of job %s, which is %s", d.Event, d.Job, j.state)
	}
	if j.state == "DROPPED" {
		c.fault("%s of job %s, which was dropped", d.Event, d.Job)
	}
	if d.Epoch != 0 && d.Epoch != c.epoch && !late {
		c.fault("%s of epoch %d, the job manager's is %d", d.Event, d.Epoch, c.epoch)
	}
	handlers := map[string]func(*jobCheck, Decision){
		"state": c.state, "deploy": c.deploy, "trigger": c.trigger, "ack": c.ack, "completed": c.completedLine, "aborted": c.aborted,
		"committed": c.committedLine, "refused": c.refusedLine, "marked": c.markedLine, "announced": c.announcedLine, "fenced": c.fencedLine,
		"handedOut": c.handedOutLine, "published": c.published, "splitAdded": c.splitAdded, "dropped": c.dropped,
	}
	if handle := handlers[d.Event]; handle != nil {
		handle(j, d)
	} else {
		c.fault("event %q is unknown", d.Event)
	}
}

func (c *checker) start(d Decision) {
	if d.Epoch <= c.epoch {
		c.fault("the job manager starts in epoch %d after epoch %d", d.Epoch, c.epoch)
	}
	c.epoch = d.Epoch
	for _, j := range c.jobs {
		j.restarted = true
		if !slices.Contains(terminal, j.state) && j.state != "DROPPED" {
			j.state = "" // whatever ran is over
		}
		for t, p := range j.progress {
			if p == committed {
				j.progress[t] = maybeMarked
			}
		}
	}
}

// dropped: only a job that has ended is forgotten. Its last line may lack where the job manager was killed.
func (c *checker) dropped(j *jobCheck, d Decision) {
	if !slices.Contains(terminal, j.state) && !(j.restarted && j.state == "") {
		c.fault("job %s is dropped, and is %s", d.Job, j.state)
	}
	j.state = "DROPPED"
}

func (c *checker) state(j *jobCheck, d Decision) {
	if j.state != d.To && slices.Contains(terminal, d.To) {
		c.terminal(j, d.To)
	}
	j.state = d.To
}

// terminal: a job ends when all that was named is committed, and all that was handed out is fenced. An id
// that was fenced before a kill of the job manager may lack its line.
func (c *checker) terminal(j *jobCheck, state string) {
	for _, t := range slices.Sorted(maps.Keys(j.named)) {
		if p := j.progress[t]; p != marked && p != maybeMarked && p != refused {
			c.fault("job %s is %s, and %s of checkpoint %d is not marked", j.id, state, t, j.named[t])
		}
	}
	if j.restarted {
		return
	}
	fenced := map[handoutKey]int{}
	for id := range j.fenced {
		if p, err := parseID(id); err == nil {
			fenced[handoutKey{p.attempt, p.sink, p.subtask}]++
		}
	}
	for key, count := range j.handedOut {
		if fenced[key] < count {
			c.fault("job %s is %s, and of %d ids of %s[%s] in attempt %d only %d are fenced", j.id, state, count, key.sink, key.subtask, key.attempt, fenced[key])
		}
	}
}

func (c *checker) deploy(j *jobCheck, d Decision) {
	if d.Granted < d.Needed {
		c.fault("deploy of attempt %d with %d of %d slots", d.Attempt, d.Granted, d.Needed)
	}
	if d.Attempt <= j.attempt {
		c.fault("deploy of attempt %d after attempt %d", d.Attempt, j.attempt)
	}
	if d.Checkpoint > j.completed {
		c.conclude(j, d.Checkpoint)
	}
	switch {
	case j.completed > 0 && d.Checkpoint != j.completed:
		c.fault("attempt %d restores checkpoint %d, the newest completed one is %d", d.Attempt, d.Checkpoint, j.completed)
	case j.completed == 0 && j.attempt > 0 && d.Checkpoint != j.deployed:
		c.fault("attempt %d restores checkpoint %d, attempt %d began with %d, and none was completed", d.Attempt, d.Checkpoint, j.attempt, j.deployed)
	case j.final:
		c.fault("attempt %d is deployed after the final checkpoint %d", d.Attempt, j.completed)
	}
	j.attempt, j.deployed, j.added = d.Attempt, d.Checkpoint, map[string]string{}
}

// splitAdded gives a partition that was found to a subtask; to another one too, and it is read twice.
func (c *checker) splitAdded(j *jobCheck, d Decision) {
	if d.Attempt != j.attempt {
		c.fault("%s/%d is added in attempt %d, deployed is attempt %d", d.Topic, d.Partition, d.Attempt, j.attempt)
		return
	}
	vertex, _, _ := strings.Cut(string(d.Subtask), "/")
	split := fmt.Sprintf("%s %s/%d", vertex, d.Topic, d.Partition)
	if has, added := j.added[split]; added && has != string(d.Subtask) {
		c.fault("%s/%d is added to %s, and was to %s", d.Topic, d.Partition, d.Subtask, has)
	}
	j.added[split] = string(d.Subtask)
}

// conclude takes a checkpoint as completed whose line was lost in a kill of the job manager: it was triggered,
// not aborted, and a job manager that started later acts on it.
func (c *checker) conclude(j *jobCheck, id int64) {
	k := j.checkpoints[id]
	if !j.restarted || k == nil || k.completed || k.aborted {
		return
	}
	c.complete(j, k, k.listed(j))
}

// listed are the transactions of the acks which no manifest has named yet.
func (k *checkpointCheck) listed(j *jobCheck) []string {
	seen := map[string]bool{}
	for _, list := range k.acks {
		for _, t := range list {
			if in, named := j.named[t]; !named || in == k.id {
				seen[t] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (c *checker) trigger(j *jobCheck, d Decision) {
	if d.Attempt != j.attempt {
		c.fault("trigger of checkpoint %d in attempt %d, deployed is attempt %d", d.Checkpoint, d.Attempt, j.attempt)
	}
	if d.Checkpoint <= j.triggered {
		c.fault("trigger of checkpoint %d after %d", d.Checkpoint, j.triggered)
	}
	j.triggered = max(j.triggered, d.Checkpoint)
	j.checkpoints[d.Checkpoint] = &checkpointCheck{id: d.Checkpoint, attempt: d.Attempt, acks: map[string][]string{}}
}

// ack of a stale attempt or epoch, or of a checkpoint that is unknown or over, does not count; a completed line that
// counted it lacks an ack then.
func (c *checker) ack(j *jobCheck, d Decision) {
	k := j.checkpoints[d.Checkpoint]
	if k == nil || k.attempt != d.Attempt || j.attempt != d.Attempt || k.completed || k.aborted || d.Epoch != c.epoch {
		return
	}
	if before, again := k.acks[string(d.Subtask)]; again && !slices.Equal(before, d.Transactions) {
		c.fault("%s acknowledges checkpoint %d twice, with %v and %v", d.Subtask, d.Checkpoint, before, d.Transactions)
	}
	k.acks[string(d.Subtask)] = d.Transactions
	j.subtasks[string(d.Subtask)] = true
	for _, t := range d.Transactions {
		c.checkOwner(j, d, t)
	}
}

// checkOwner: a transaction runs under an id of its own attempt and subtask, and the id was handed out.
func (c *checker) checkOwner(j *jobCheck, d Decision, t string) {
	p, err := parseID(transactionID(t))
	switch {
	case err != nil:
		c.fault("ack of %s: %v", d.Subtask, err)
	case p.attempt != d.Attempt:
		c.fault("%s in attempt %d lists %s, an id of attempt %d", d.Subtask, d.Attempt, t, p.attempt)
	case p.n >= j.handedOut[handoutKey{p.attempt, p.sink, p.subtask}]:
		c.fault("%s lists %s, and only %d ids were handed out", d.Subtask, t, j.handedOut[handoutKey{p.attempt, p.sink, p.subtask}])
	}
}

func (c *checker) completedLine(j *jobCheck, d Decision) {
	k := j.checkpoints[d.Checkpoint]
	switch {
	case k == nil:
		c.fault("checkpoint %d is completed and was not triggered", d.Checkpoint)
		return
	case k.aborted:
		c.fault("checkpoint %d is completed after it was aborted", d.Checkpoint)
	case k.completed:
		c.fault("checkpoint %d is completed twice", d.Checkpoint)
		return
	case d.Attempt != k.attempt:
		c.fault("checkpoint %d is completed in attempt %d, triggered in %d", d.Checkpoint, d.Attempt, k.attempt)
	}
	if missing := missingFrom(k.listed(j), d.Transactions); len(missing) > 0 {
		c.fault("checkpoint %d leaves out %s of its acks", d.Checkpoint, strings.Join(missing, ", "))
	}
	if foreign := missingFrom(d.Transactions, k.allListed()); len(foreign) > 0 {
		c.fault("checkpoint %d names %s, which no ack of it lists", d.Checkpoint, strings.Join(foreign, ", "))
	}
	j.final = j.final || d.Final
	c.complete(j, k, d.Transactions)
}

func (c *checker) complete(j *jobCheck, k *checkpointCheck, transactions []string) {
	if k.id <= j.completed {
		c.fault("checkpoint %d is completed after %d", k.id, j.completed)
	}
	if k.attempt < j.attempt {
		c.fault("checkpoint %d of attempt %d is completed in attempt %d", k.id, k.attempt, j.attempt)
	}
	k.completed, k.line = true, c.line
	c.found.Completed++
	j.completed = max(j.completed, k.id)
	for _, t := range transactions {
		if in, named := j.named[t]; named && in != k.id {
			c.fault("%s stands in the manifests of %d and %d", t, in, k.id)
		}
		if j.fenced[transactionID(t)] {
			c.fault("checkpoint %d names %s, whose id was fenced before", k.id, t)
		}
		j.named[t] = k.id
		if _, known := j.progress[t]; !known {
			j.progress[t] = open
		}
	}
}

func (k *checkpointCheck) allListed() []string {
	var all []string
	for _, list := range k.acks {
		all = append(all, list...)
	}
	return all
}

func missingFrom(want, have []string) []string {
	var missing []string
	for _, t := range want {
		if !slices.Contains(have, t) {
			missing = append(missing, t)
		}
	}
	return missing
}
