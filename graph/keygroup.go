package graph

// KeyGroup is the key group of a stream key: FNV-1a with a final mix, modulo maxParallelism. It is
// part of the format of checkpoints and never changes.
func KeyGroup(key []byte, maxParallelism int) int {
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	return int(h % uint64(maxParallelism))
}

// SubtaskOfKeyGroup is the subtask that owns a key group.
func SubtaskOfKeyGroup(group, parallelism, maxParallelism int) int {
	return group * parallelism / maxParallelism
}

// KeyGroupsOf is the range of key groups, both inclusive, that a subtask owns.
func KeyGroupsOf(subtask, parallelism, maxParallelism int) (first, last int) {
	first = (subtask*maxParallelism + parallelism - 1) / parallelism
	last = ((subtask+1)*maxParallelism - 1) / parallelism
	return first, last
}
