package main

import (
	"fmt"

	"github.com/sluice-stream/sluice/connector/kafka"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/spec"
)

// load reads a job file with its overrides. Warnings go to stderr; an invalid file is a usage error with
// every fault in it.
func (c *cli) load(path string, sets []string) (*graph.Job, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	job, err := spec.Parse(data, path, spec.Options{
		Checks: graph.Checks{Expressions: expression.Checker{}, Properties: kafka.CheckProperties, Job: kafka.CheckJob},
		Set:    sets,
		Warn:   func(p spec.Problem) { fmt.Fprintln(c.stderr, "warning:", p) },
	})
	if err != nil {
		return nil, usageError("invalid job file\n%w", err)
	}
	return job, nil
}

func planOf(job *graph.Job) (*graph.Physical, error) {
	plan, err := graph.Plan(job, expression.Checker{})
	if err != nil {
		return nil, usageError("%w", err)
	}
	return plan, nil
}
