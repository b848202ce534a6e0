package main

import (
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// screen is where progress is shown. A terminal redraws one line; everything else gets a line per event.
type screen struct {
	file *os.File // nil: no terminal that can redraw
}

// newScreen finds out what w is. TERM=dumb says of a terminal that it cannot redraw.
func newScreen(w io.Writer, lookupEnv func(string) (string, bool)) screen {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return screen{}
	}
	if lookupEnv != nil {
		if t, _ := lookupEnv("TERM"); t == "dumb" {
			return screen{}
		}
	}
	return screen{f}
}

func (s screen) redraws() bool { return s.file != nil }

// fit cuts text to the width of the terminal of now: a line that wraps cannot be drawn again.
func (s screen) fit(text string) string {
	width, _, err := term.GetSize(int(s.file.Fd()))
	if err != nil || width < 2 {
		return text
	}
	return cut(text, width-1)
}

// cut shortens text to at most n characters, the last of which says so.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}
