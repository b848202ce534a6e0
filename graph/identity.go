package graph

import (
	"fmt"
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

// IdentityChange is what a job has to take over from a checkpoint of another identity.
type IdentityChange struct {
	// Dropped has the sources and stateful operators of the checkpoint that the job does not have, with
	// the same name and schema: their offsets or state would be lost. Added has the job's new ones,
	// which start empty. Both as in the identity: source:NAME or state:NAME=SCHEMA.
	Dropped, Added []string
}

// CompareIdentity says what changes from the identity of a checkpoint to that of a job. It is an error
// if the state cannot be taken over at all: another number of key groups, or an identity that this
// version does not know.
func CompareIdentity(checkpoint, job string) (IdentityChange, error) {
	oldHead, old, errOld := splitIdentity(checkpoint)
	newHead, now, errNow := splitIdentity(job)
	switch {
	case errOld != nil:
		return IdentityChange{}, fmt.Errorf("compare identity of the checkpoint: %w", errOld)
	case errNow != nil:
		return IdentityChange{}, fmt.Errorf("compare identity of the job: %w", errNow)
	case oldHead != newHead:
		return IdentityChange{}, fmt.Errorf("the checkpoint has %s, the job %s: maxParallelism is frozen at the first checkpoint; set it back",
			oldHead, newHead)
	}
	return IdentityChange{Dropped: without(old, now), Added: without(now, old)}, nil
}

func splitIdentity(text string) (keyGroups string, words []string, err error) {
	words = strings.Fields(text)
	if len(words) < 2 || words[0] != "sluice/1" || !strings.HasPrefix(words[1], "keyGroups=") {
		return "", nil, fmt.Errorf("identity %.80q: want sluice/1 keyGroups=N …", text)
	}
	return words[1], words[2:], nil
}

func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(w string) bool { return slices.Contains(other, w) })
}
