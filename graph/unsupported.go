package graph

// unsupported refuses what a job can say but what nobody carries out yet. A line goes when the feature
// comes, the function with the last one.
func unsupported(job *Job) []Problem {
	var p problems
	for i := range job.Sources {
		k := job.Sources[i].Kafka
		if k == nil {
			continue
		}
		path := Path{"sources", job.Sources[i].Name, "kafka"}
		if k.Mode == ModeGroup {
			p.add(path.With("mode"), "use assigned", "not supported yet: mode group")
		}
	}
	return p.list
}
