package plot

// Bars is a chart of horizontal bars in groups. Each group has a scale of its own from 0, so that bars
// compare within a group only.
type Bars struct {
	Title string
	Note  string // below the title: unit, what a whisker is
	// Format writes a value.
	Format func(float64) string
	Groups []Group
}

// Group is what is compared.
type Group struct {
	Name string
	Bars []Bar
}

// Bar is one value, with the least and the greatest that were measured.
type Bar struct {
	Name           string
	Value          float64
	Least, Largest float64 // both 0: no whisker
}

// The layout, in pixels.
const (
	marginPx   = 16
	headPx     = 56
	labelPx    = 190 // the names of bars end here
	barPx      = 14
	rowPx      = 20
	groupGapPx = 14
	valuePx    = 150 // kept free for the values, behind the longest bar
)

// SVG draws the chart.
func (b *Bars) SVG() []byte {
	c := &canvas{}
	c.text(marginPx, 26, "title", b.Title)
	c.text(marginPx, 44, "soft", b.Note)
	y := float64(headPx)
	for _, g := range b.Groups {
		y += rowPx
		c.text(marginPx, y-6, "group", g.Name)
		scale := (widthPx - labelPx - marginPx - valuePx) / g.largest()
		for _, bar := range g.Bars {
			b.draw(c, bar, y, scale)
			y += rowPx
		}
		y += groupGapPx
	}
	c.heightPx = y
	return c.svg(b.Title)
}

// largest is what the longest bar stands for; 1 in a group without any.
func (g *Group) largest() float64 {
	largest := 0.0
	for _, bar := range g.Bars {
		largest = max(largest, bar.Value, bar.Largest)
	}
	if largest == 0 {
		return 1
	}
	return largest
}

func (b *Bars) draw(c *canvas, bar Bar, y, scale float64) {
	middle, from := y+barPx/2, float64(labelPx+8)
	c.text(labelPx, middle+4, "end", bar.Name)
	c.rect(from, y, max(1, bar.Value*scale), barPx, c.hue(bar.Name))
	end, value := from+bar.Value*scale, b.Format(bar.Value)
	if bar.Least != 0 || bar.Largest != 0 {
		left, right := from+bar.Least*scale, from+bar.Largest*scale
		c.line(left, middle, right, middle, "whisker")
		c.line(left, middle-3, left, middle+3, "whisker")
		c.line(right, middle-3, right, middle+3, "whisker")
		end = max(end, right)
		value += " (" + b.Format(bar.Least) + "–" + b.Format(bar.Largest) + ")"
	}
	c.text(end+8, middle+4, "", value)
}
