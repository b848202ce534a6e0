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

// loss is what Kafka refused to commit of completed checkpoints, and what stands beside it.
type loss struct {
	job  ident.JobID
	lost []commit.Lost
	// kept are the completed checkpoints that can be read, oldest first.
	kept []*manifest.Manifest
}

// lossSoFar says what the lost checkpoints cost and what an operator can do (DESIGN rule 14). While others are still being
// committed it may be too little: it is worded again when they are.
func (r *runner) lossSoFar() job.Failure {
	l := loss{job: r.id, lost: r.losses}
	err := r.m.store.View(func(tx *boltstore.Tx) error {
		found, err := tx.Manifests(r.id)
		for _, f := range found { // oldest first
			if f.Manifest != nil {
				l.kept = append(l.kept, f.Manifest)
			}
		}
		return err
	})
	if err != nil { // the loss must be told all the same
		r.log.Error("read the checkpoints around the loss", "reason", err)
	}
	return job.Failure{At: time.Now(), Class: job.External, Message: l.String()}
}

// String names what is lost, where it came from, and the two ways out with what each costs.
func (l *loss) String() string {
	ids, lost := l.checkpoints(), l.transactions()
	which, whose := "checkpoint %s is", "its"
	if len(ids) > 1 {
		which, whose = "checkpoints %s are", "their"
	}
	var s strings.Builder
	fmt.Fprintf(&s, which+" complete, but Kafka refused to commit %d of %s transactions", listed(texts(ids)), len(lost), whose)
	if len(lost) > 0 {
		first := &l.lost[0].Transactions[0]
		fmt.Fprintf(&s, " (%s: %v)", first.Transaction.TransactionalID, first.Err)
	}
	if text := outputRanges(lost); text != "" {
		s.WriteString("; the output that is lost: " + text)
	}
	if text := l.sourceRanges(); text != "" {
		s.WriteString("; its input is within " + text)
	}
	s.WriteString(". Ways out: " + l.waysOut(lost))
	return s.String()
}

// checkpoints are the lost ones, oldest first.
func (l *loss) checkpoints() []ident.CheckpointID {
	var out []ident.CheckpointID
	for i := range l.lost {
		out = append(out, l.lost[i].Checkpoint)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func texts(ids []ident.CheckpointID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, fmt.Sprint(id))
	}
	return out
}

// transactions are those that Kafka refused to commit.
func (l *loss) transactions() []manifest.Transaction {
	var out []manifest.Transaction
	for i := range l.lost {
		for k := range l.lost[i].Transactions {
			out = append(out, l.lost[i].Transactions[k].Transaction)
		}
	}
	return out
}

// before is the newest checkpoint before everything that is lost; nil: none can be read.
func (l *loss) before() (found *manifest.Manifest) {
	for _, m := range l.kept {
		if m.Checkpoint < l.checkpoints()[0] {
			found = m
		}
	}
	return found
}

// newest is the last completed checkpoint: all output up to it is committed, or lost.
func (l *loss) newest() ident.CheckpointID {
	ids := l.checkpoints()
	newest := ids[len(ids)-1]
	for _, m := range l.kept {
		newest = max(newest, m.Checkpoint)
	}
	return newest
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

// sourceRanges names what was read between the predecessor of the first lost checkpoint and the last one.
func (l *loss) sourceRanges() string {
	ids, before := l.checkpoints(), l.before()
	at := slices.IndexFunc(l.kept, func(m *manifest.Manifest) bool { return m.Checkpoint == ids[len(ids)-1] })
	if at < 0 || before == nil {
		return ""
	}
	from := map[manifest.Split]int64{}
	for _, p := range before.Positions {
		from[p.Split] = p.Next
	}
	var out []string
	for _, p := range l.kept[at].Positions {
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

// waysOut says what going back before the loss and going on behind all of it cost.
func (l *loss) waysOut(lost []manifest.Transaction) string {
	on := fmt.Sprintf("`sluice submit FILE --from-checkpoint %s/%d` writes nothing twice and loses %s", l.job, l.newest(), countOf(lost))
	again, known := l.again(lost)
	if !known {
		return on
	}
	return fmt.Sprintf("`sluice submit FILE --from-checkpoint %s/%d` loses nothing and writes %s a second time; %s",
		l.job, l.before().Checkpoint, countOf(again), on)
}

// again are the transactions that are committed and would be written once more from before the loss. They are not known
// if a lost checkpoint, or that before all of them, cannot be read.
func (l *loss) again(lost []manifest.Transaction) (out []manifest.Transaction, known bool) {
	before := l.before()
	if before == nil {
		return nil, false
	}
	seen := map[manifest.TransactionKey]bool{}
	for _, list := range [][]manifest.Transaction{lost, before.Transactions} {
		for i := range list {
			seen[list[i].Key()] = true
		}
	}
	readable := map[ident.CheckpointID]bool{}
	for _, m := range l.kept {
		readable[m.Checkpoint] = true
		if m.Checkpoint <= before.Checkpoint {
			continue
		}
		for _, t := range m.Transactions {
			if !seen[t.Key()] {
				seen[t.Key()] = true
				out = append(out, t)
			}
		}
	}
	for _, id := range l.checkpoints() {
		if !readable[id] {
			return nil, false
		}
	}
	return out, true
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
