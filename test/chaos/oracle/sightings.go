package oracle

import (
	"maps"
	"slices"
)

// sighting is one record as a reader saw it: 16 bytes, so that a run of minutes fits into memory.
type sighting struct {
	offset int64
	sum    uint64
}

// sightings are what a reader saw of a topic, by partition in the order in which it came.
type sightings struct{ partitions map[int32][]sighting }

func newSightings() sightings { return sightings{partitions: map[int32][]sighting{}} }

func (s *sightings) add(partition int32, offset int64, sum uint64) {
	s.partitions[partition] = append(s.partitions[partition], sighting{offset, sum})
}

// last is the last offset of a partition, −1 if there is none.
func (s *sightings) last(partition int32) int64 {
	if seen := s.partitions[partition]; len(seen) > 0 {
		return seen[len(seen)-1].offset
	}
	return -1
}

// compareSightings tells where a live reader saw something else than the final scan, whose offsets rise.
func compareSightings(reader string, final, live *sightings, mismatch *tally) {
	all := maps.Clone(final.partitions)
	maps.Copy(all, live.partitions)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		compareSequence(final.partitions[p], live.partitions[p], func(offset int64, what string) {
			mismatch.add("%s, partition %d, offset %d: %s", reader, p, offset, what)
		})
	}
}

func compareSequence(final, live []sighting, tell func(offset int64, what string)) {
	next, newest := 0, int64(-1)
	for _, s := range live {
		if s.offset <= newest {
			tell(s.offset, "seen again or late")
			continue
		}
		newest = s.offset
		for ; next < len(final) && final[next].offset < s.offset; next++ {
			tell(final[next].offset, "skipped")
		}
		switch {
		case next == len(final) || final[next].offset != s.offset:
			tell(s.offset, "seen, and not there at the end")
			continue
		case final[next].sum != s.sum:
			tell(s.offset, "had other bytes")
		}
		next++
	}
	for _, s := range final[next:] {
		tell(s.offset, "not seen")
	}
}
