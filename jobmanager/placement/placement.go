// Package placement decides which of a job's slots runs which of its subtasks. It is pure.
//
// A slot runs one subtask of every vertex: position i of the order runs subtask i of each vertex whose
// parallelism is above i. So an order of the slots is a whole placement.
package placement

import (
	"cmp"
	"slices"

	"github.com/sluice-stream/sluice/ident"
)

// Order arranges granted slots into positions. A position whose worker of the attempt before has a slot
// in the grant stays there; the other positions go over the workers in turn, so that a vertex with fewer
// subtasks than the job has slots is spread as well. The same input gives the same order.
func Order(granted []ident.Slot, previous []ident.WorkerID) []ident.Slot {
	left := inTurn(granted)
	order := make([]ident.Slot, len(granted))
	kept := make([]bool, len(granted))
	for i := range min(len(order), len(previous)) {
		at := slices.IndexFunc(left, func(s ident.Slot) bool { return s.Worker == previous[i] })
		if at >= 0 {
			order[i], kept[i] = left[at], true
			left = slices.Delete(left, at, at+1)
		}
	}
	for i := range order {
		if !kept[i] {
			order[i], left = left[0], left[1:]
		}
	}
	return order
}

// inTurn sorts slots so that each worker gives its first slot before any gives its second.
func inTurn(granted []ident.Slot) []ident.Slot {
	sorted := slices.SortedFunc(slices.Values(granted), ident.Slot.Compare)
	round := make(map[ident.Slot]int, len(sorted))
	seen := map[ident.WorkerID]int{}
	for _, s := range sorted {
		round[s] = seen[s.Worker]
		seen[s.Worker]++
	}
	slices.SortStableFunc(sorted, func(a, b ident.Slot) int { return cmp.Compare(round[a], round[b]) })
	return sorted
}

// Workers is the worker of each position.
func Workers(order []ident.Slot) []ident.WorkerID {
	workers := make([]ident.WorkerID, len(order))
	for i, s := range order {
		workers[i] = s.Worker
	}
	return workers
}
