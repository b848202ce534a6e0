// Package plot draws small charts as SVG: bars in groups, and lines between logarithmic axes. A chart
// brings its own background and follows the reader's light or dark colour scheme, so that it can be an
// image in a Markdown page. Equal input gives equal bytes.
package plot

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// widthPx is that of every chart; one unit of the drawing is one pixel.
const widthPx = 760

// hues tell contestants and lines apart, on white and on black; names that are more than these share them.
// They differ in lightness too, for those who do not see colours.
var hues = []struct{ light, dark string }{
	{"#0969da", "#58a6ff"}, {"#bf5b00", "#f0883e"}, {"#1a7f37", "#56d364"}, {"#8250df", "#bc8cff"},
	{"#57606a", "#9ea7b3"}, {"#bf3989", "#f778ba"}, {"#7d6608", "#e3b341"}, {"#0e7a86", "#39c5cf"},
}

// canvas collects the elements of a drawing.
type canvas struct {
	bytes.Buffer
	heightPx float64
	names    []string // in the order of their hues
}

// hue is the class of a name: the same one each time.
func (c *canvas) hue(name string) string {
	i := slices.Index(c.names, name)
	if i < 0 {
		i = len(c.names)
		c.names = append(c.names, name)
	}
	return "h" + strconv.Itoa(i%len(hues))
}

// number writes a coordinate; a tenth of a pixel is exact enough.
func number(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func (c *canvas) text(x, y float64, class, text string) {
	fmt.Fprintf(c, "<text x=\"%s\" y=\"%s\" class=\"%s\">%s</text>\n", number(x), number(y), class, html.EscapeString(text))
}

func (c *canvas) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(c, "<line x1=\"%s\" y1=\"%s\" x2=\"%s\" y2=\"%s\" class=\"%s\"/>\n", number(x1), number(y1), number(x2), number(y2), class)
}

func (c *canvas) rect(x, y, width, height float64, class string) {
	fmt.Fprintf(c, "<rect x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\" rx=\"2\" class=\"%s\"/>\n", number(x), number(y), number(width), number(height), class)
}

// svg frames what has been drawn.
func (c *canvas) svg(title string) []byte {
	var out bytes.Buffer
	height := number(c.heightPx)
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%s\" viewBox=\"0 0 %d %s\" role=\"img\">\n", widthPx, height, widthPx, height)
	fmt.Fprintf(&out, "<title>%s</title>\n%s", html.EscapeString(title), style())
	fmt.Fprintf(&out, "<rect width=\"%d\" height=\"%s\" class=\"paper\"/>\n", widthPx, height)
	out.Write(c.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// style has the light colours and, for readers who want them, the dark ones.
func style() string {
	var b strings.Builder
	b.WriteString("<style>\ntext{font:12px system-ui,sans-serif;fill:#1f2328}\n.title{font-size:15px;font-weight:600}\n.group{font-weight:600}\n" +
		".end{text-anchor:end}\n.mid{text-anchor:middle}\n.soft{fill:#59636e}\n.paper{fill:#fff}\n.grid{stroke:#d1d9e0}\n.whisker{stroke:#1f2328}\n")
	for i, h := range hues {
		fmt.Fprintf(&b, ".h%d{fill:%s;stroke:%s}\n", i, h.light, h.light)
	}
	b.WriteString(".curve{fill:none;stroke-width:2}\n@media(prefers-color-scheme:dark){\n" +
		"text{fill:#f0f6fc}\n.soft{fill:#9198a1}\n.paper{fill:#0d1117}\n.grid{stroke:#3d444d}\n.whisker{stroke:#f0f6fc}\n")
	for i, h := range hues {
		fmt.Fprintf(&b, ".h%d{fill:%s;stroke:%s}\n", i, h.dark, h.dark)
	}
	b.WriteString(".curve{fill:none}\n}\n</style>\n")
	return b.String()
}
