// Package figures sums figures up and writes them: samples, numbers, tables for a terminal or for a page.
package figures

import (
	"math"
	"slices"
)

// Sample sums up repeated measurements of one thing.
type Sample struct {
	N      int     `json:"n"`
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

// NewSample sums values up.
func NewSample(values []float64) Sample {
	sorted := slices.Sorted(slices.Values(values))
	return Sample{N: len(sorted), Min: quantile(sorted, 0), Median: quantile(sorted, 0.5), P99: quantile(sorted, 0.99), Max: quantile(sorted, 1)}
}

// quantile interpolates between the two nearest of the sorted values; 0 of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	low, part := math.Modf(at)
	i := int(low)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + part*(sorted[i+1]-sorted[i])
}

// SampleOf sums up one figure of many things.
func SampleOf[T any](things []T, figure func(*T) float64) Sample {
	var values []float64
	for i := range things {
		values = append(values, figure(&things[i]))
	}
	return NewSample(values)
}
