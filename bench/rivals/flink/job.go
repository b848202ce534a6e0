package flink

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Kind says what a job does with each record.
type Kind string

// The kinds. Each writes with the timestamp of the record that it read, all but Count to the same partition and with
// the same key and headers.
const (
	Pass   Kind = "pass"   // writes it as it is
	Filter Kind = "filter" // writes it if its value begins with Prefix
	JSON   Kind = "json"   // keeps and shortens JSON objects, as the benchmark's json job says
	Count  Kind = "count"  // counts by key and writes the new count under the key, to the key's partition
)

// Job is one job. What is not here is as well tuned as in the Java sources, which give a reason for each setting.
type Job struct {
	Kind    Kind
	Brokers string // bootstrap list
	Source  string // topic
	Target  string // topic with the same number of partitions
	Prefix  string // of the values that a Filter keeps; one byte or more
	// Bounded ends the job at the offsets that are the last ones when it starts.
	Bounded bool
	// Latest starts it at the ends of the partitions, otherwise at their beginnings.
	Latest bool
	// Parallelism is that of every operator.
	Parallelism int
	// Interval is that of checkpoints; 0: none.
	Interval time.Duration
	// ExactlyOnce writes in transactions, otherwise at-least-once.
	ExactlyOnce bool
	// Compression is Kafka's name of the codec of what is written, none when empty.
	Compression string
	// Linger is how long the producer waits for a batch to fill.
	Linger time.Duration
}

// arguments are those of the Java program.
func (j *Job) arguments(checkpoints string) []string {
	startup, guarantee, compression := "earliest", "at-least-once", "none"
	if j.Latest {
		startup = "latest"
	}
	if j.ExactlyOnce {
		guarantee = "exactly-once"
	}
	if j.Compression != "" {
		compression = j.Compression
	}
	return []string{
		"kind=" + string(j.Kind), "brokers=" + j.Brokers, "source=" + j.Source, "target=" + j.Target, "prefix=" + j.Prefix,
		"bounded=" + strconv.FormatBool(j.Bounded), "startup=" + startup, "parallelism=" + strconv.Itoa(j.Parallelism),
		"intervalMs=" + strconv.FormatInt(j.Interval.Milliseconds(), 10), "checkpoints=file://" + checkpoints,
		"guarantee=" + guarantee, "compression=" + compression, "lingerMs=" + strconv.FormatInt(j.Linger.Milliseconds(), 10),
	}
}

// check refuses what could not do what it says.
func (j *Job) check() error {
	var errs []error
	if j.Brokers == "" || j.Source == "" || j.Target == "" {
		errs = append(errs, fmt.Errorf("brokers %q, source %q and target %q: each must be said", j.Brokers, j.Source, j.Target))
	}
	if j.Kind == Filter && j.Prefix == "" {
		errs = append(errs, errors.New("a filter without a prefix keeps every record: say the prefix, or take the kind pass"))
	}
	if j.Parallelism <= 0 {
		errs = append(errs, fmt.Errorf("parallelism %d: must be above 0", j.Parallelism))
	}
	if j.ExactlyOnce && j.Interval <= 0 {
		errs = append(errs, errors.New("exactly-once without checkpoints commits nothing before the end: say an interval"))
	}
	return errors.Join(errs...)
}
