package graph

import (
	"slices"
	"strconv"
	"strings"
)

// countSchema is the version of what package state writes for a running count.
const countSchema = "count/1"

// identity names the state-relevant graph as text: the number of key groups, the sources, whose
// offsets are state, and the stateful operators with the schema of their state. Expressions, sinks,
// stateless operators, parallelism and the order in the job file are no part of it. For example:
//
//	sluice/1 keyGroups=128 source:orders state:count=count/1
func identity(job *Job) string {
	var words []string
	for i := range job.Sources {
		words = append(words, "source:"+job.Sources[i].Name)
	}
	for i := range job.Operators {
		if job.Operators[i].Count {
			words = append(words, "state:"+job.Operators[i].Name+"="+countSchema)
		}
	}
	slices.Sort(words)
	return strings.Join(append([]string{"sluice/1", "keyGroups=" + strconv.Itoa(job.MaxParallelism)}, words...), " ")
}
