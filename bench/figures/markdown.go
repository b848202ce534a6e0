package figures

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// Markdown takes what is printed for people, and makes Markdown of the tables in it.
type Markdown struct{ bytes.Buffer }

// table writes a table whose first row is the header. Columns of figures are aligned to the right.
func (m *Markdown) table(rows [][]string) {
	header := rows[0]
	m.row(header, len(header))
	aligns := make([]string, len(header))
	for i := range header {
		aligns[i] = "---"
		if areFigures(rows[1:], i) {
			aligns[i] = "---:"
		}
	}
	m.row(aligns, len(header))
	for _, row := range rows[1:] {
		m.row(row, len(header))
	}
}

func (m *Markdown) row(cells []string, width int) {
	for i := range width {
		cell := ""
		if i < len(cells) {
			cell = strings.ReplaceAll(cells[i], "|", `\|`)
		}
		fmt.Fprintf(m, "| %s ", cell)
	}
	m.WriteString("|\n")
}

// areFigures says whether every cell of a column is a number, has one in front, or is empty.
func areFigures(rows [][]string, column int) bool {
	found := false
	for _, row := range rows {
		if column >= len(row) || row[column] == "" || row[column] == "-" {
			continue
		}
		if first := []rune(row[column])[0]; !unicode.IsDigit(first) {
			return false
		}
		found = true
	}
	return found
}
