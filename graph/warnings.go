package graph

// MaxMarkersPerSecond is the rate of transaction markers above which a broker suffers.
const MaxMarkersPerSecond = 5000

// Warnings finds what is allowed in a valid job but probably not meant.
func Warnings(job *Job) []Problem {
	var p problems
	net := newNetwork(job)
	read := make([]bool, len(net.parts))
	for _, inputs := range net.inputs {
		for _, in := range inputs {
			read[in] = true
		}
	}
	for i := range net.parts {
		if part := &net.parts[i]; part.node.Kind != KindSink && !read[i] {
			p.add(part.path, "add a sink with from: "+part.node.Name+" or remove it",
				"nothing reads from %s %s; its records are dropped", part.node.Kind, part.node.Name)
		}
	}
	return p.list
}

// MarkerWarnings finds the exactly-once sinks that commit more than MaxMarkersPerSecond transaction
// markers: a subtask writes one per partition and checkpoint. Partitions has the number of partitions
// that a sink writes to; a sink that is not in it is passed over.
func MarkerWarnings(job *Job, partitions map[string]int) []Problem {
	var p problems
	if job.Checkpoint.Interval <= 0 {
		return nil
	}
	for i := range job.Sinks {
		s := &job.Sinks[i]
		if s.Kafka == nil || s.Kafka.Guarantee != ExactlyOnce {
			continue
		}
		subtasks := s.Parallelism
		fill(&subtasks, job.Parallelism)
		if rate := float64(subtasks*partitions[s.Name]) / job.Checkpoint.Interval.Seconds(); rate > MaxMarkersPerSecond {
			p.add(Path{"sinks", s.Name, "kafka", "guarantee"}, "raise checkpoint.interval or lower the sink's parallelism",
				"%d subtasks × %d partitions every %v make %.0f transaction markers a second; above %d brokers suffer",
				subtasks, partitions[s.Name], job.Checkpoint.Interval, rate, MaxMarkersPerSecond)
		}
	}
	return p.list
}
