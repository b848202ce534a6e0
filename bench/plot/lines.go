package plot

import (
	"fmt"
	"math"
	"strings"
)

// Lines is a chart of lines between two logarithmic axes.
type Lines struct {
	Title string
	Note  string
	X, Y  Axis
	Lines []Line
}

// Axis names what it shows. Without ticks it has one at each power of ten.
type Axis struct {
	Name  string
	Ticks []Tick
}

// Tick is a place on an axis with its label.
type Tick struct {
	At   float64
	Name string
}

// Line is drawn through its points in their order. A logarithmic axis has no place for values that are not
// above 0: such points are left out.
type Line struct {
	Name   string
	Points []Point
}

// Point is a place between the axes.
type Point struct{ X, Y float64 }

// The layout, in pixels.
const (
	axisPx      = 64 // left of the plot, for the names of ticks
	plotPx      = 300
	legendRowPx = 18
	legendPx    = 230 // of one entry
	pointPx     = 3
	rightPx     = 40 // right of the plot, for half of the last tick's name
)

// SVG draws the chart.
func (l *Lines) SVG() []byte {
	c := &canvas{}
	c.text(marginPx, 26, "title", l.Title)
	c.text(marginPx, 44, "soft", l.Note)
	top := l.legend(c)
	x, y := l.scales(top)
	for _, tick := range x.ticks {
		at := x.at(tick.At)
		c.line(at, top, at, top+plotPx, "grid")
		c.text(at, top+plotPx+18, "mid soft", tick.Name)
	}
	for _, tick := range y.ticks {
		at := y.at(tick.At)
		c.line(axisPx, at, widthPx-rightPx, at, "grid")
		c.text(axisPx-6, at+4, "end soft", tick.Name)
	}
	for _, line := range l.Lines {
		drawLine(c, line, x, y)
	}
	c.text((axisPx+widthPx-rightPx)/2, top+plotPx+38, "mid", l.X.Name)
	c.text(marginPx, top-14, "", l.Y.Name)
	c.heightPx = top + plotPx + 50
	return c.svg(l.Title)
}

// legend names the lines, three in a row, and returns where the plot begins.
func (l *Lines) legend(c *canvas) float64 {
	y := float64(headPx)
	for i, line := range l.Lines {
		x := marginPx + float64(i%3)*legendPx
		if i > 0 && i%3 == 0 {
			y += legendRowPx
		}
		c.rect(x, y, 12, 12, c.hue(line.Name))
		c.text(x+18, y+10, "", line.Name)
	}
	return y + 50
}

// scale maps the values of an axis to pixels.
type scale struct {
	low, high float64 // logarithms
	from, to  float64 // pixels
	ticks     []Tick
}

func (s *scale) at(v float64) float64 {
	return s.from + (math.Log10(v)-s.low)/(s.high-s.low)*(s.to-s.from)
}

func (l *Lines) scales(top float64) (x, y *scale) {
	x, y = &scale{from: axisPx, to: widthPx - rightPx}, &scale{from: top + plotPx, to: top}
	x.fit(l.X.Ticks, l.Lines, func(p Point) float64 { return p.X })
	y.fit(l.Y.Ticks, l.Lines, func(p Point) float64 { return p.Y })
	return x, y
}

// fit spans all points, and whole powers of ten when no ticks are given.
func (s *scale) fit(ticks []Tick, lines []Line, of func(Point) float64) {
	s.low, s.high = math.Inf(1), math.Inf(-1)
	include := func(v float64) { s.low, s.high = min(s.low, math.Log10(v)), max(s.high, math.Log10(v)) }
	for _, line := range lines {
		for _, p := range line.Points {
			if p.X > 0 && p.Y > 0 {
				include(of(p))
			}
		}
	}
	if s.low > s.high {
		s.low, s.high = 0, 1 // no points at all
	}
	if len(ticks) > 0 {
		s.ticks = ticks
		for _, tick := range ticks {
			include(tick.At)
		}
		return
	}
	s.low, s.high = math.Floor(s.low), math.Ceil(s.high)
	if s.low == s.high {
		s.high++
	}
	for power := s.low; power <= s.high; power++ {
		s.ticks = append(s.ticks, Tick{At: math.Pow(10, power), Name: powerOfTen(int(power))})
	}
}

// powerOfTen writes 0.01, 1, 1,000 and so on.
func powerOfTen(power int) string {
	if power < 0 {
		return "0." + strings.Repeat("0", -power-1) + "1"
	}
	digits := "1" + strings.Repeat("0", power)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func drawLine(c *canvas, line Line, x, y *scale) {
	class := c.hue(line.Name)
	var path strings.Builder
	for _, p := range line.Points {
		if p.X <= 0 || p.Y <= 0 {
			continue
		}
		fmt.Fprintf(&path, " %s,%s", number(x.at(p.X)), number(y.at(p.Y)))
		fmt.Fprintf(c, "<circle cx=\"%s\" cy=\"%s\" r=\"%d\" class=\"%s\"/>\n", number(x.at(p.X)), number(y.at(p.Y)), pointPx, class)
	}
	fmt.Fprintf(c, "<polyline points=\"%s\" class=\"%s curve\"/>\n", strings.TrimSpace(path.String()), class)
}
