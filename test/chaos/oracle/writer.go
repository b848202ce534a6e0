package oracle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// writer is a producer id and epoch, which serve one transaction each.
type writer struct {
	id    int64
	epoch int16
}

// writerOf is the producer in a transaction's text.
func writerOf(transaction string) (writer, error) {
	_, producer, _ := strings.Cut(transaction, "@")
	id, epoch, _ := strings.Cut(producer, ":")
	n, err1 := strconv.ParseInt(id, 10, 64)
	e, err2 := strconv.ParseInt(epoch, 10, 16)
	if err1 != nil || err2 != nil {
		return writer{}, fmt.Errorf("transaction %q does not end in @producerId:epoch", transaction)
	}
	return writer{n, int16(e)}, nil
}

// unnamed tells which of the output was written in a transaction that no completed checkpoint names: that of an
// attempt which is over, or one that somebody else committed.
func unnamed(written map[writer]string, named []string) []string {
	known := map[writer]bool{}
	var t tally
	for _, transaction := range named {
		by, err := writerOf(transaction)
		if err != nil {
			t.add("%v", err)
		}
		known[by] = true
	}
	var strangers []string
	for by, where := range written {
		if !known[by] {
			strangers = append(strangers, fmt.Sprintf("%s was written by producer %d in epoch %d, whose transaction no completed checkpoint names", where, by.id, by.epoch))
		}
	}
	slices.Sort(strangers)
	for _, s := range strangers {
		t.add("%s", s)
	}
	return t.reasons("transaction")
}
