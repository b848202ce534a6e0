package graph

import "strings"

// nearestLen bounds the words that Nearest compares: longer ones are no typing errors.
const nearestLen = 128

// Nearest is the known word that was probably meant, or "": one that differs only in case, else the one
// with the fewest edits, at most a third of its letters (two of short words). Of equals the first wins.
func Nearest(word string, known []string) string {
	if word == "" || len(word) > nearestLen {
		return ""
	}
	best, bestEdits := "", 0
	for _, k := range known {
		if strings.EqualFold(word, k) {
			return k
		}
		limit := max(2, len(k)/3)
		if len(k) > nearestLen || len(k) <= 2 || max(len(k)-len(word), len(word)-len(k)) > limit {
			continue
		}
		if n := edits(strings.ToLower(word), strings.ToLower(k)); n <= limit && (best == "" || n < bestEdits) {
			best, bestEdits = k, n
		}
	}
	return best
}

// DidYouMean is Nearest as a hint.
func DidYouMean(word string, known []string) string {
	if k := Nearest(word, known); k != "" {
		return "did you mean " + k + "?"
	}
	return ""
}

// edits is the number of bytes to insert, delete or replace, or of neighbours to swap, between a and b
// (optimal string alignment).
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
