// Package spec reads the YAML job file (DESIGN 8.2) into a graph.Job. Every fault of the file is
// reported at once, each at its line and column.
package spec

import (
	"go.yaml.in/yaml/v3"

	"github.com/sluice-stream/sluice/graph"
)

// Options are what Parse needs besides the file.
type Options struct {
	// Checks judges expressions and Kafka properties; what they report is placed in the file.
	Checks graph.Checks
	// Set holds overrides of the file as path=value; they are applied in order. What is missing on the
	// way is made. A dot that belongs to a step of the path is written \., or the step stands in
	// brackets; elements of lists are named by their index. The value is a YAML scalar, or a list or
	// mapping in [ ] or { }; anything else is text, so expressions need no further quotes.
	//
	//	sources.orders.kafka.properties.bootstrap\.servers=localhost:9092
	//	sources.orders.kafka.properties["bootstrap.servers"]=localhost:9092
	//	sources.orders.kafka.topics=[orders]
	Set []string
	// Warn is told what is allowed but probably not meant, if the job is valid. Nil: nobody is.
	Warn func(Problem)
}

// Parse reads a job file and fills in the defaults. The filename only names it in messages. The error
// is an Errors with everything that is wrong.
func Parse(data []byte, filename string, opts Options) (*graph.Job, error) {
	root, err := readTree(data, filename)
	if err != nil {
		return nil, err
	}
	d := &decoder{file: filename, text: string(data), places: map[string]entry{}, origin: map[*yaml.Node]string{}}
	for _, set := range opts.Set {
		if err := d.applySet(root, set); err != nil {
			d.problems = append(d.problems, Problem{File: "--set " + setName(set), Message: err.Error()})
		}
	}
	if d.tree(root); d.tooDeep {
		return nil, d.errors()
	}
	job := d.job(root)
	job.SetDefaults()
	for _, p := range graph.Check(job, opts.Checks) {
		if !d.follows(p) {
			d.problems = append(d.problems, d.place(p))
		}
	}
	if len(d.problems) > 0 {
		return nil, d.errors()
	}
	if opts.Warn != nil {
		for _, p := range graph.Warnings(job) {
			opts.Warn(d.place(p))
		}
	}
	return job, nil
}
