package figures

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table is written at its end: with aligned columns, or as Markdown where that is what it is written to.
type Table struct {
	w    io.Writer
	rows [][]string
}

// NewTable begins a table with its header.
func NewTable(w io.Writer, header ...string) *Table {
	return &Table{w: w, rows: [][]string{header}}
}

// Row adds a row.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// End writes the table. Errors of stdout show in the next write that matters, the JSON.
func (t *Table) End() {
	fmt.Fprintln(t.w)
	if m, ok := t.w.(*Markdown); ok {
		m.table(t.rows)
		return
	}
	aligned := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		fmt.Fprintln(aligned, strings.Join(row, "\t"))
	}
	_ = aligned.Flush() // see above
}
