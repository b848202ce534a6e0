package kafka

import (
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
)

// Assign spreads the splits of one source over its subtasks: sorted by topic and partition they go round,
// so that no subtask has two more than another, and the same splits always go the same way. Subtasks
// beyond the number of splits get none.
func Assign(positions []manifest.Position, parallelism int) [][]manifest.Position {
	out := make([][]manifest.Position, parallelism)
	if parallelism == 0 {
		return out
	}
	sorted := slices.Clone(positions)
	slices.SortStableFunc(sorted, func(a, b manifest.Position) int { return a.Compare(b.Split) })
	for i, p := range sorted {
		out[i%parallelism] = append(out[i%parallelism], p)
	}
	return out
}
