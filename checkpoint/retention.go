package checkpoint

import (
	"cmp"
	"slices"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// Marked says whether the commit of a transaction is durably marked. Nil stands for none is marked.
type Marked func(manifest.TransactionKey) bool

// Plan is what retention keeps and deletes. Drop the manifests first, durably, then delete the blobs:
// a crash in between leaves files that nothing names, which a sweep removes.
type Plan struct {
	Keep, Drop []ident.CheckpointID
	// Delete are the files that a dropped manifest names and no kept one does.
	Delete []manifest.Blob
}

// Retention decides over all manifests of one job, in any order. Kept are
//   - the newest retain of them (at least one), which the job restores from;
//   - checkpoint 0, which says where the job began;
//   - the first that names a transaction without a durable committed mark, the one before it, and all after it: if that
//     transaction turns out to be lost, the predecessor is what is still whole (DESIGN rules 8 and 14), and what was
//     written since is what going back to it writes twice.
func Retention(manifests []*manifest.Manifest, retain int, marked Marked) Plan {
	sorted := slices.Clone(manifests)
	slices.SortFunc(sorted, func(a, b *manifest.Manifest) int { return cmp.Compare(a.Checkpoint, b.Checkpoint) })
	keep := make([]bool, len(sorted))
	open := slices.IndexFunc(sorted, func(m *manifest.Manifest) bool { return len(Unmarked(m, marked)) > 0 })
	for i, m := range sorted {
		keep[i] = m.Checkpoint == 0 || i >= len(sorted)-max(retain, 1) || open >= 0 && i >= open-1
	}
	var plan Plan
	named := make(map[string]struct{})
	for i, m := range sorted {
		if !keep[i] {
			plan.Drop = append(plan.Drop, m.Checkpoint)
			continue
		}
		plan.Keep = append(plan.Keep, m.Checkpoint)
		for _, b := range Blobs(m) {
			named[b.Name] = struct{}{}
		}
	}
	for i, m := range sorted {
		if keep[i] {
			continue
		}
		for _, b := range Blobs(m) {
			if _, ok := named[b.Name]; !ok {
				named[b.Name] = struct{}{}
				plan.Delete = append(plan.Delete, b)
			}
		}
	}
	return plan
}

// Blobs lists the files that a manifest names.
func Blobs(m *manifest.Manifest) []manifest.Blob {
	var list []manifest.Blob
	for i := range m.State {
		if m.State[i].Blob.Name != "" {
			list = append(list, m.State[i].Blob)
		}
	}
	return list
}

// Unmarked lists the transactions of a manifest whose commit is not durably marked.
func Unmarked(m *manifest.Manifest, marked Marked) []manifest.Transaction {
	var list []manifest.Transaction
	for i := range m.Transactions {
		if t := &m.Transactions[i]; marked == nil || !marked(t.Key()) {
			list = append(list, *t)
		}
	}
	return list
}
