package figures

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// disturbedShare is how much of one processor may be busy with something else in a run: the kernel's own threads
// take some of that. What had more is marked.
const disturbedShare = 0.1

// Disturbed says whether others took more than that.
func Disturbed(foreignSeconds, seconds float64) bool {
	return seconds > 0 && foreignSeconds/seconds > disturbedShare
}

// Mark stands behind what was disturbed.
func Mark(disturbed bool) string {
	if disturbed {
		return " †"
	}
	return ""
}

// Digits writes a figure with three digits that count, and no more than it has.
func Digits(v float64) string {
	switch size := math.Abs(v); {
	case size >= 1000:
		return Grouped(math.Round(v))
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 1 || size == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// Grouped writes a number with commas between thousands.
func Grouped(v float64) string {
	text := strconv.FormatFloat(v, 'f', -1, 64)
	whole, part, isBroken := strings.Cut(text, ".")
	for at := len(whole) - 3; at > 0 && whole[at-1] != '-'; at -= 3 {
		whole = whole[:at] + "," + whole[at:]
	}
	if isBroken {
		return whole + "." + part
	}
	return whole
}

// Ms is a duration in milliseconds.
func Ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// MiB is a size in mebibytes.
func MiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }
