package expression

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/sluice-stream/sluice/graph"
)

// TestTranscripts runs testdata: "record" says which record the expressions see from there on (formats as
// arguments; key, value, header lines; what is absent is null), any other command evaluates each line of
// its input where the command says.
func TestTranscripts(t *testing.T) {
	uses := map[string]graph.Use{}
	for u := graph.UseFilter; u <= graph.UsePartition; u++ {
		uses[u.String()] = u
	}
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var (
			w          row
			key, value graph.Format
		)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "record" {
				key, value = graph.Bytes, graph.Bytes
				for _, a := range d.CmdArgs {
					*map[string]*graph.Format{"key": &key, "value": &value}[a.Key] = graph.Format(a.Vals[0])
				}
				w = readRow(t, d.Input)
				return ""
			}
			use, ok := uses[d.Cmd]
			if !ok {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			var out strings.Builder
			for _, source := range strings.Split(d.Input, "\n") {
				fmt.Fprintln(&out, evaluate(t, source, use, key, value, w))
			}
			return out.String()
		})
	})
}

func readRow(t *testing.T, input string) row {
	w := row{timestamp: -1}
	for _, line := range strings.Split(input, "\n") {
		name, rest, _ := strings.Cut(line, " ")
		content := unquote(t, rest)
		switch name {
		case "key":
			w.key = content
		case "value":
			w.value = content
		case "timestamp":
			w.timestamp, _ = strconv.ParseInt(rest, 10, 64)
		case "header":
			k, v, ok := strings.Cut(rest, "=")
			h := [2][]byte{text(k), nil}
			if ok {
				h[1] = unquote(t, v)
			}
			w.headers = append(w.headers, h)
		}
	}
	return w
}

// unquote takes text in Go's double quotes, or as it is.
func unquote(t *testing.T, s string) []byte {
	if !strings.HasPrefix(s, `"`) || strings.HasPrefix(s, `"{`) {
		return []byte(s)
	}
	u, err := strconv.Unquote(s)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(u)
}
