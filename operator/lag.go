package operator

import (
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
)

// LogEnd is where the log of a split ends, and what is published of its source there.
type LogEnd struct {
	Split manifest.Split
	// High is the high watermark, Stable the last stable offset; -1 while unknown. Stable is asked for only
	// if the source reads committed records alone.
	High, Stable int64
	// Err is why they are unknown.
	Err       error
	Published []PublishedOffset
}

// PublishedOffset is what stands in one storage for a split.
type PublishedOffset struct {
	Storage graph.OffsetStorage
	// Next is the next offset to read, whatever the number in the storage means; -1: none is there.
	Next int64
	// Err is why Next is unknown.
	Err error
}
