package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
)

// element is one start tag of a drawing.
type element struct {
	name string
	attr map[string]string
	text string
}

// parse reads a drawing as XML, which it has to be, and checks that everything lies on the paper.
func parse(t *testing.T, svg []byte) []element {
	t.Helper()
	var out []element
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not XML: %v\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{name: token.Name.Local, attr: map[string]string{}}
			for _, a := range token.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			out = append(out, e)
		case xml.CharData:
			if len(out) > 0 {
				out[len(out)-1].text += string(token)
			}
		}
	}
	height := out[0].number(t, "height")
	for _, e := range out[1:] {
		for name := range e.attr {
			limit := map[string]float64{"x": widthPx, "x1": widthPx, "x2": widthPx, "cx": widthPx, "y": height, "y1": height, "y2": height, "cy": height}[name]
			if v := 0.0; limit > 0 {
				if v = e.number(t, name); v < 0 || v > limit || math.IsNaN(v) {
					t.Errorf("%s: %s %g is outside of 0 to %g", e.name, name, v, limit)
				}
			}
		}
	}
	return out
}

func (e *element) number(t *testing.T, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(e.attr[name], 64)
	if err != nil {
		t.Fatalf("%s: attribute %s: %v", e.name, name, err)
	}
	return v
}

func TestBars(t *testing.T) {
	b := Bars{
		Title: "CPU <per> record", Note: "seconds", Format: func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) },
		Groups: []Group{
			{Name: "small", Bars: []Bar{{Name: "sluice", Value: 1}, {Name: "other & co", Value: 4, Least: 3, Largest: 5}}},
			{Name: "large", Bars: []Bar{{Name: "sluice", Value: 100}}},
			{Name: "nothing", Bars: []Bar{{Name: "sluice"}}},
		},
	}
	svg := b.SVG()
	if !bytes.Equal(svg, b.SVG()) {
		t.Error("drawn twice, it differs")
	}
	var widths []float64
	var classes []string
	for _, e := range parse(t, svg) {
		if class := e.attr["class"]; e.name == "rect" && class != "paper" {
			widths, classes = append(widths, e.number(t, "width")), append(classes, class)
		}
	}
	if len(widths) != 4 || math.Abs(widths[1]/widths[0]-4) > 0.01 {
		t.Errorf("widths %v: the second bar is four times the first", widths)
	}
	if widths[2] <= widths[1] {
		t.Errorf("widths %v: a group has its own scale, and the second one has a whisker beyond it", widths)
	}
	if got := strings.Join(classes, " "); got != "h0 h1 h0 h0" {
		t.Errorf("classes %s: a name has the same hue in each group", got)
	}
	for _, want := range []string{"CPU &lt;per&gt; record", "4.00 (3.00–5.00)", "other &amp; co"} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("no %q in the drawing", want)
		}
	}
}

func TestLines(t *testing.T) {
	l := Lines{
		Title: "coordination", X: Axis{Name: "subtasks"}, Y: Axis{Name: "ms"},
		Lines: []Line{
			{Name: "p50", Points: []Point{{10, 0.5}, {100, 5}, {1000, 50}, {10_000, 500}}},
			{Name: "p99", Points: []Point{{10, 0}, {10_000, 900}}},
		},
	}
	var xs, ys []float64
	var ticks []string
	for _, e := range parse(t, l.SVG()) {
		if e.name == "circle" {
			xs, ys = append(xs, e.number(t, "cx")), append(ys, e.number(t, "cy"))
		}
		if strings.Contains(e.attr["class"], "soft") {
			ticks = append(ticks, strings.TrimSpace(e.text))
		}
	}
	if len(xs) != 5 {
		t.Fatalf("%d points, want 5: one of the second line has no place on a logarithmic axis", len(xs))
	}
	for i := 1; i < 3; i++ { // equal factors are equal distances
		if d := (xs[i+1] - xs[i]) - (xs[i] - xs[i-1]); math.Abs(d) > 0.3 {
			t.Errorf("x %v: distances differ by %g", xs, d)
		}
		if d := (ys[i+1] - ys[i]) - (ys[i] - ys[i-1]); math.Abs(d) > 0.3 {
			t.Errorf("y %v: distances differ by %g", ys, d)
		}
	}
	if got := strings.Join(ticks, " "); !strings.Contains(got, "10 100 1,000 10,000 0.1 1 10 100 1,000") {
		t.Errorf("ticks %s", got)
	}
}

func TestLinesWithoutPoints(t *testing.T) {
	l := Lines{Title: "nothing", Lines: []Line{{Name: "empty"}, {Name: "one"}, {Name: "ten", Points: []Point{{10, 10}}}}}
	parse(t, l.SVG())
	l.Lines = nil
	parse(t, l.SVG())
	l.X.Ticks = []Tick{{At: 1, Name: "0 %"}, {At: 100, Name: "99 %"}}
	parse(t, l.SVG())
}
