package jobmanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/jobmanager/commit"
)

const (
	// firstIDs is how many transactional ids a sink subtask is deployed with (DESIGN rule 11).
	firstIDs = 4
	// maxIDs bounds those of one sink subtask in one attempt: burnt ones are not counted against its cap.
	maxIDs = 10_000
	// idDays is how long brokers remember a transactional id that is not used any more.
	idDays = 7
	// manyIDs is the number of ids within idDays above which brokers suffer (FLINK-34554).
	manyIDs = 100_000
)

// The small values of a job in the store: its hand-outs, and how many ids it made on which day.
const (
	handoutPrefix = "ids/"
	madePrefix    = "ids-made/"
	dayFormat     = "2006-01-02"
)

// sinkRef names a sink of one subtask.
type sinkRef struct {
	subtask ident.Subtask
	sink    string
}

// transactionalSinks holds the exactly-once sinks of a plan, by subtask.
func transactionalSinks(plan *graph.Physical) map[sinkRef]*graph.KafkaSink {
	out := map[sinkRef]*graph.KafkaSink{}
	for i := range plan.Vertices {
		v := &plan.Vertices[i]
		for k := range v.Nodes {
			if n := &v.Nodes[k]; n.Kind == graph.KindSink && n.Sink.Kafka != nil && n.Sink.Kafka.Guarantee == graph.ExactlyOnce {
				for index := range v.Parallelism {
					out[sinkRef{ident.Subtask{Vertex: v.Name, Index: index}, n.Name}] = n.Sink.Kafka
				}
			}
		}
	}
	return out
}

// idCap is how many transactional ids, burnt ones not counted, a sink subtask of the job may own.
func idCap(j *graph.Job) int { return max(firstIDs, j.Checkpoint.TolerableFailures+3) }

// newHandouts are the first hand-outs of an attempt. The ids begin with the prefix that the sink asks for,
// for access rules, and the random name of the data directory, so that no other attempt ever uses them
// (DESIGN rule 9).
func newHandouts(cluster string, id ident.JobID, plan *graph.Physical, attempt ident.Attempt) map[sinkRef]commit.Handout {
	out := map[sinkRef]commit.Handout{}
	owner := attempt
	if failpoint.Bug(failpoint.ShareIDs) {
		owner = 0
	}
	for ref, k := range transactionalSinks(plan) {
		out[ref] = commit.Handout{
			HandoutKey: commit.HandoutKey{Attempt: attempt, Sink: ref.sink, Subtask: ref.subtask.Index},
			Cluster:    k.Properties["bootstrap.servers"],
			Prefix:     fmt.Sprintf("%s%s/%s/%s/%d/%d/", k.TransactionalIDPrefix, cluster, id, ref.sink, ref.subtask.Index, owner),
			Count:      firstIDs,
		}
	}
	return out
}

// storedHandout is a hand-out in the store, as JSON under its key.
type storedHandout struct {
	Cluster string `json:"cluster"`
	Prefix  string `json:"prefix"`
	Count   int    `json:"count"`
}

func handoutName(k commit.HandoutKey) string { return handoutPrefix + k.String() }

// errForgotten refuses to raise a hand-out whose ids are all fenced for good: the record would outlive the job.
var errForgotten = errors.New("the hand-out is forgotten: its attempt is over")

// raiseHandout writes the first hand-out of a sink subtask, or a higher count of one that is there.
func raiseHandout(tx *boltstore.Tx, id ident.JobID, h commit.Handout) error {
	if h.Count > firstIDs {
		if _, err := tx.Value(id, handoutName(h.HandoutKey)); errors.Is(err, boltstore.ErrNotFound) {
			return fmt.Errorf("%s: %w", h.HandoutKey, errForgotten)
		} else if err != nil {
			return err
		}
	}
	data, err := json.Marshal(storedHandout{Cluster: h.Cluster, Prefix: h.Prefix, Count: h.Count})
	if err != nil {
		return fmt.Errorf("encode hand-out %s: %w", h.HandoutKey, err)
	}
	return tx.PutValue(id, handoutName(h.HandoutKey), data)
}

// readHandouts reads what a job has handed out and not fenced for good.
func readHandouts(tx *boltstore.Tx, id ident.JobID) ([]commit.Handout, error) {
	var out []commit.Handout
	err := tx.Values(id, handoutPrefix, func(name string, value []byte) error {
		var s storedHandout
		key, err := handoutKey(strings.TrimPrefix(name, handoutPrefix))
		if err = errors.Join(err, json.Unmarshal(value, &s)); err != nil {
			return fmt.Errorf("hand-out %q of job %s: %w: %w", name, id, boltstore.ErrDamaged, err)
		}
		out = append(out, commit.Handout{HandoutKey: key, Cluster: s.Cluster, Prefix: s.Prefix, Count: s.Count})
		return nil
	})
	return out, err
}

// handoutKey reads attempt/sink/subtask.
func handoutKey(text string) (k commit.HandoutKey, err error) {
	parts := strings.Split(text, "/")
	if len(parts) != 3 {
		return k, fmt.Errorf("want ATTEMPT/SINK/SUBTASK, got %q", text)
	}
	attempt, err := strconv.ParseUint(parts[0], 10, 64)
	index, err2 := strconv.Atoi(parts[2])
	return commit.HandoutKey{Attempt: ident.Attempt(attempt), Sink: parts[1], Subtask: index}, errors.Join(err, err2)
}

// countMade adds to the ids that a job made today, and forgets days that brokers have forgotten.
func countMade(tx *boltstore.Tx, id ident.JobID, n int, now time.Time) error {
	today, oldest := now.UTC().Format(dayFormat), now.UTC().AddDate(0, 0, -idDays).Format(dayFormat)
	var drop []string
	err := tx.Values(id, madePrefix, func(name string, value []byte) error {
		day := strings.TrimPrefix(name, madePrefix)
		if day < oldest {
			drop = append(drop, name)
		}
		if day == today {
			old, err := strconv.Atoi(string(value))
			n += old
			return err
		}
		return nil
	})
	for _, name := range drop {
		err = errors.Join(err, tx.DeleteValue(id, name))
	}
	return errors.Join(err, tx.PutValue(id, madePrefix+today, []byte(strconv.Itoa(n))))
}

// inheritMade keeps how many ids a job made that is being dropped: brokers remember them all the same.
func inheritMade(tx *boltstore.Tx, id ident.JobID, now time.Time) error {
	oldest := madePrefix + now.UTC().AddDate(0, 0, -idDays).Format(dayFormat)
	made := map[string]int{}
	add := func(name string, value []byte) error {
		n, _ := strconv.Atoi(string(value)) // what cannot be read is only not counted
		made[name] += n
		return nil
	}
	err := errors.Join(tx.Values(id, madePrefix, add), tx.SharedValues(madePrefix, add))
	for name, n := range made {
		if name < oldest {
			err = errors.Join(err, tx.DeleteSharedValue(name))
		} else {
			err = errors.Join(err, tx.PutSharedValue(name, []byte(strconv.Itoa(n))))
		}
	}
	return err
}

// idCounter counts the transactional ids of the last days, over all jobs.
type idCounter struct {
	mu     sync.Mutex
	byDay  map[string]int
	warned string // the day of the last warning
}

func newIDCounter() *idCounter { return &idCounter{byDay: map[string]int{}} }

// read adds what the store holds of a job.
func (c *idCounter) read(tx *boltstore.Tx, id ident.JobID) error {
	return tx.Values(id, madePrefix, c.readDay)
}

// readInherited adds what the store holds of jobs that were dropped.
func (c *idCounter) readInherited(tx *boltstore.Tx) error {
	return tx.SharedValues(madePrefix, c.readDay)
}

func (c *idCounter) readDay(name string, value []byte) error {
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return fmt.Errorf("ids made, %q: %w: %w", name, boltstore.ErrDamaged, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byDay[strings.TrimPrefix(name, madePrefix)] += n
	return nil
}

// add counts ids that were just made; alarm says that there are too many now, once a day.
func (c *idCounter) add(n int, now time.Time) (alarm bool) {
	today := now.UTC().Format(dayFormat)
	c.mu.Lock()
	c.byDay[today] += n
	c.mu.Unlock()
	if c.recent(now) <= manyIDs {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	alarm = c.warned != today
	c.warned = today
	return alarm
}

// recent is how many ids were made in the last idDays.
func (c *idCounter) recent(now time.Time) int {
	oldest := now.UTC().AddDate(0, 0, -idDays).Format(dayFormat)
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for day, n := range c.byDay {
		if day < oldest {
			delete(c.byDay, day)
			continue
		}
		sum += n
	}
	return sum
}
