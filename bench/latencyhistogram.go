package main

import (
	"math"
	"math/bits"
	"time"

	"github.com/sluice-stream/sluice/bench/figures"
)

// histogram counts durations in microseconds, in ranges that are less than one percent wide, so that tails of many
// millions of records take a few kilobytes. The zero value is empty.
type histogram struct {
	n        int64
	min, max int64
	counts   []int64
}

const (
	// subRangeBits divides each power of two into 128 ranges.
	subRangeBits = 7
	subRanges    = 1 << subRangeBits
	// maxMicros is two hours; what takes longer counts as that.
	maxMicros = 1<<33 - 1
)

// rangeOf is the index of the range of a value; values below twice subRanges have one each.
func rangeOf(micros int64) int {
	shift := max(0, bits.Len64(uint64(micros))-subRangeBits-1)
	return shift<<subRangeBits + int(micros>>shift)
}

// endOfRange is the largest value of a range.
func endOfRange(index int) int64 {
	shift := max(0, index>>subRangeBits-1)
	return (int64(index-shift<<subRangeBits)+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) {
	micros := min(max(d.Microseconds(), 0), maxMicros)
	if h.counts == nil {
		h.counts = make([]int64, rangeOf(maxMicros)+1)
		h.min = micros
	}
	h.n++
	h.min, h.max = min(h.min, micros), max(h.max, micros)
	h.counts[rangeOf(micros)]++
}

// quantile is the end of the range that the value at q lies in, in milliseconds: never less than the value.
func (h *histogram) quantile(q float64) float64 {
	rank := max(1, int64(math.Ceil(q*float64(h.n))))
	for i, count := range h.counts {
		if rank -= count; rank <= 0 {
			return float64(min(endOfRange(i), h.max)) / 1000
		}
	}
	return 0
}

// Distribution sums up a great many durations, in milliseconds.
type Distribution struct {
	figures.Sample
	P999 float64 `json:"p999"`
	// Quantiles are for plots, from the median up to what so many values can tell.
	Quantiles []Quantile `json:"quantiles,omitempty"`
}

// Quantile is the value below which the share At of all lies.
type Quantile struct {
	At    float64 `json:"at"`
	Value float64 `json:"value"`
}

// plottedQuantiles are even on an axis of nines.
var plottedQuantiles = []float64{0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 0.99999}

// fewestBeyond is how many values must lie above a quantile that is plotted.
const fewestBeyond = 10

func (h *histogram) distribution() Distribution {
	d := Distribution{
		Sample: figures.Sample{N: int(h.n), Min: float64(h.min) / 1000, Median: h.quantile(0.5), P99: h.quantile(0.99), Max: float64(h.max) / 1000},
		P999:   h.quantile(0.999),
	}
	for _, q := range plottedQuantiles {
		if (1-q)*float64(h.n) >= fewestBeyond {
			d.Quantiles = append(d.Quantiles, Quantile{q, h.quantile(q)})
		}
	}
	return d
}
