package kafka

import (
	"strconv"
	"strings"

	"github.com/sluice-stream/sluice/graph"
)

// LookUpProperty finds a property by name. The error, a *PropertyError, says why there is none of that name, or
// which one may be meant.
func LookUpProperty(name string) (Property, error) {
	if p, ok := findProperty(name); ok {
		return *p, nil
	}
	if reason, ok := refusal(name); ok {
		return Property{}, &PropertyError{Name: name, Reason: reason}
	}
	var names []string
	for _, p := range Properties() {
		names = append(names, p.Name)
	}
	return Property{}, &PropertyError{Name: name, Reason: "no such property", Hint: graph.DidYouMean(name, names)}
}

// Range says which values the type takes: the choices, or the smallest and the largest number; empty: any.
func (p *Property) Range() string {
	switch {
	case len(p.Values) > 0:
		return strings.Join(p.Values, ", ")
	case p.Max > 0:
		return strconv.FormatInt(p.Min, 10) + " to " + strconv.FormatInt(p.Max, 10)
	default:
		return ""
	}
}
