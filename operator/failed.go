package operator

// Failed decides over record i of an opened batch, which a part of a node (filter, keyBy, size, …) cannot
// handle because of cause. Nil means that the record is left out: it was counted as skipped, or went to the
// dead letters. An error fails the subtask. It belongs to the subtask's goroutine.
type Failed func(b *Batch, i int, part string, cause error) error
