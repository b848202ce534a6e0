package oracle

import (
	"maps"
	"slices"
)

func (c *checker) aborted(j *jobCheck, d Decision) {
	k := j.checkpoints[d.Checkpoint]
	switch {
	case k == nil:
		c.fault("checkpoint %d is aborted and was not triggered", d.Checkpoint)
	case k.completed:
		c.fault("checkpoint %d is aborted after it was completed", d.Checkpoint)
	case !k.aborted:
		k.aborted = true
		c.found.Failed++
	}
}

// commitOf finds the manifest that names a transaction, after a start also one whose line was lost.
func (c *checker) commitOf(j *jobCheck, t string) bool {
	if _, named := j.named[t]; named {
		return true
	}
	for _, id := range slices.Sorted(maps.Keys(j.checkpoints)) {
		if k := j.checkpoints[id]; id > j.completed && slices.Contains(k.allListed(), t) {
			c.conclude(j, id)
		}
	}
	_, named := j.named[t]
	return named
}

func (c *checker) committedLine(j *jobCheck, d Decision) {
	if !c.commitOf(j, d.Transaction) {
		c.fault("%s is committed, and no completed checkpoint names it", d.Transaction)
	}
	switch j.progress[d.Transaction] {
	case marked:
		c.fault("%s is committed again after its mark", d.Transaction)
	case refused:
		c.fault("%s is committed after it was refused", d.Transaction)
	default:
		j.progress[d.Transaction] = committed
	}
	id, in := transactionID(d.Transaction), j.named[d.Transaction]
	if in < j.ended[id] {
		c.fault("%s of checkpoint %d is committed after one of %s of checkpoint %d", d.Transaction, in, id, j.ended[id])
	}
	j.ended[id] = max(j.ended[id], in)
}

func (c *checker) refusedLine(j *jobCheck, d Decision) {
	if !c.commitOf(j, d.Transaction) {
		c.fault("the commit of %s is refused, and no completed checkpoint names it", d.Transaction)
	}
	if j.progress[d.Transaction] == marked {
		c.fault("the commit of %s is refused after its mark", d.Transaction)
	}
	j.progress[d.Transaction] = refused
}

func (c *checker) markedLine(j *jobCheck, d Decision) {
	for _, t := range d.Transactions {
		if p := j.progress[t]; p != committed && p != maybeMarked && p != marked {
			c.fault("%s is marked and was not committed", t)
		}
		j.progress[t] = marked
	}
}

func (c *checker) announcedLine(j *jobCheck, d Decision) {
	if d.Checkpoint > j.completed {
		c.conclude(j, d.Checkpoint)
	}
	if d.Checkpoint > j.completed {
		c.fault("checkpoint %d is announced, the newest completed one is %d", d.Checkpoint, j.completed)
	}
	if d.Checkpoint < j.announced {
		c.fault("checkpoint %d is announced after %d", d.Checkpoint, j.announced)
	}
	j.announced = max(j.announced, d.Checkpoint)
	for _, t := range slices.Sorted(maps.Keys(j.named)) {
		if in := j.named[t]; in <= d.Checkpoint && !j.durable(t) {
			c.fault("checkpoint %d is announced, and %s of checkpoint %d is not marked", d.Checkpoint, t, in)
		}
	}
}

func (j *jobCheck) durable(t string) bool {
	return j.progress[t] == marked || j.progress[t] == maybeMarked
}

func (c *checker) fencedLine(j *jobCheck, d Decision) {
	if d.Attempt == j.attempt && j.state == "RUNNING" {
		c.fault("%s is fenced while its attempt %d runs", d.ID, d.Attempt)
	}
	for _, t := range slices.Sorted(maps.Keys(j.named)) {
		if transactionID(t) == d.ID && !j.durable(t) && j.progress[t] != refused {
			c.fault("%s is fenced, and %s of checkpoint %d is not marked", d.ID, t, j.named[t])
		}
	}
	j.fenced[d.ID] = true
}

func (c *checker) handedOutLine(j *jobCheck, d Decision) {
	key := handoutKey{d.Attempt, d.Sink, sinkSubtask(d)}
	if d.Count < j.handedOut[key] {
		c.fault("the count of ids of %s[%s] in attempt %d falls from %d to %d", key.sink, key.subtask, key.attempt, j.handedOut[key], d.Count)
	}
	j.handedOut[key] = max(j.handedOut[key], d.Count)
}

// sinkSubtask is the index of a subtask, which may be written as 1 or as out[1].
func sinkSubtask(d Decision) string {
	text := string(d.Subtask)
	if len(text) > len(d.Sink)+2 && text[:len(d.Sink)+1] == d.Sink+"[" {
		return text[len(d.Sink)+1 : len(text)-1]
	}
	return text
}

func (c *checker) published(j *jobCheck, d Decision) {
	if d.Checkpoint > j.completed {
		c.conclude(j, d.Checkpoint)
	}
	if d.Checkpoint > j.completed {
		c.fault("offsets of checkpoint %d are published, the newest completed one is %d", d.Checkpoint, j.completed)
	}
	at := place{d.Source, d.Storage}
	if before := j.published[at]; d.Checkpoint < before {
		c.fault("offsets of checkpoint %d are published after those of %d", d.Checkpoint, before)
	}
	j.published[at] = max(j.published[at], d.Checkpoint)
}

// atEnd: each completed checkpoint has an ack of each subtask in its own attempt. All subtasks are known only
// when all lines are read.
func (c *checker) atEnd(j *jobCheck) {
	for _, id := range slices.Sorted(maps.Keys(j.checkpoints)) {
		k := j.checkpoints[id]
		if !k.completed {
			continue
		}
		for _, s := range slices.Sorted(maps.Keys(j.subtasks)) {
			if _, acknowledged := k.acks[s]; !acknowledged {
				c.line = k.line
				c.fault("checkpoint %d is completed without an ack of %s in attempt %d", id, s, k.attempt)
			}
		}
	}
}
