package jobmanager

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/commit"
	"github.com/sluice-stream/sluice/jobmanager/job"
)

// maxRanges bounds the output partitions, and the source partitions, that a message names.
const maxRanges = 20

// loss is a completed checkpoint of which Kafka refused to commit something.
type loss struct {
	job ident.JobID
	commit.Lost
	// at is the checkpoint itself, before the one before it; nil: it cannot be read.
	at, before *manifest.Manifest
}

// lossOf says what a lost checkpoint cost and what an operator can do (DESIGN rule 14).
func (r *runner) lossOf(e commit.Lost) job.Failure {
	l := loss{job: r.id, Lost: e}
	err := r.m.store.View(func(tx *boltstore.Tx) error {
		found, err := tx.Manifests(r.id)
		for _, f := range found { // oldest first
			switch {
			case f.Checkpoint == e.Checkpoint:
				l.at = f.Manifest
			case f.Checkpoint < e.Checkpoint && f.Manifest != nil:
				l.before = f.Manifest
			}
		}
		return err
	})
	if err != nil { // the loss must be told all the same
		r.log.Error("read the checkpoints around the loss", "checkpoint", e.Checkpoint, "reason", err)
	}
	return job.Failure{At: time.Now(), Class: job.External, Message: l.String()}
}

// String names what is lost, where it came from, and the two ways out with what each costs.
func (l *loss) String() string {
	lost := make([]manifest.Transaction, 0, len(l.Transactions))
	for i := range l.Transactions {
		lost = append(lost, l.Transactions[i].Transaction)
	}
	var s strings.Builder
	fmt.Fprintf(&s, "checkpoint %d is complete, but Kafka refused to commit %d of its transactions", l.Checkpoint, len(lost))
	if len(lost) > 0 {
		fmt.Fprintf(&s, " (%s: %v)", lost[0].TransactionalID, l.Transactions[0].Err)
	}
	if text := outputRanges(lost); text != "" {
		s.WriteString("; the output that is lost: " + text)
	}
	if text := l.sourceRanges(); text != "" {
		s.WriteString("; the checkpoint covers the input " + text)
	}
	s.WriteString(". Ways out: " + l.waysOut(lost))
	return s.String()
}

// outputRanges names where transactions wrote.
func outputRanges(list []manifest.Transaction) string {
	var out []string
	for i := range list {
		for _, p := range list[i].Partitions {
			text := fmt.Sprintf("%s/%d offsets %d to %d", p.Topic, p.Partition, p.FirstOffset, p.LastOffset)
			if !known(p) {
				text = fmt.Sprintf("%s/%d offsets unknown", p.Topic, p.Partition)
			}
			out = append(out, text)
		}
	}
	return listed(out)
}

func known(p manifest.TopicPartition) bool {
	return p.FirstOffset >= 0 && p.LastOffset >= p.FirstOffset
}

// sourceRanges names what was read between the predecessor and the checkpoint.
func (l *loss) sourceRanges() string {
	if l.at == nil || l.before == nil {
		return ""
	}
	from := map[manifest.Split]int64{}
	for _, p := range l.before.Positions {
		from[p.Split] = p.Next
	}
	var out []string
	for _, p := range l.at.Positions {
		if first, ok := from[p.Split]; ok && p.Next > first {
			out = append(out, fmt.Sprintf("%s/%d offsets %d to %d", p.Topic, p.Partition, first, p.Next-1))
		}
	}
	return listed(out)
}

// listed joins a list, cut at maxRanges.
func listed(list []string) string {
	if n := len(list); n > maxRanges {
		list = append(slices.Clone(list[:maxRanges]), fmt.Sprintf("%d more", n-maxRanges))
	}
	return strings.Join(list, ", ")
}

// waysOut says what going back and going on cost.
func (l *loss) waysOut(lost []manifest.Transaction) string {
	on := fmt.Sprintf("`sluice submit FILE --from-checkpoint %s/%d` writes nothing twice and loses %s", l.job, l.Checkpoint, countOf(lost))
	if l.at == nil || l.before == nil {
		return on
	}
	var kept []manifest.Transaction
	for _, t := range l.at.Transactions {
		if !slices.ContainsFunc(lost, func(o manifest.Transaction) bool { return o.Key() == t.Key() }) {
			kept = append(kept, t)
		}
	}
	return fmt.Sprintf("`sluice submit FILE --from-checkpoint %s/%d` loses nothing and writes %s a second time; %s",
		l.job, l.before.Checkpoint, countOf(kept), on)
}

// countOf bounds the records that transactions wrote: others may have written in between.
func countOf(list []manifest.Transaction) string {
	n := int64(0)
	for i := range list {
		for _, p := range list[i].Partitions {
			if !known(p) {
				return "an unknown number of records"
			}
			n += p.LastOffset - p.FirstOffset + 1
		}
	}
	return fmt.Sprintf("at most %d records", n)
}
