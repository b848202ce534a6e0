package graph

import "strconv"

// String names the kind as messages do.
func (k Kind) String() string {
	switch k {
	case KindSource:
		return "source"
	case KindOperator:
		return "operator"
	case KindSink:
		return "sink"
	}
	return "kind " + strconv.Itoa(int(k))
}

// String names the partitioning.
func (p Partitioning) String() string {
	switch p {
	case Forward:
		return "forward"
	case Hash:
		return "hash"
	case Rebalance:
		return "rebalance"
	}
	return "partitioning " + strconv.Itoa(int(p))
}
