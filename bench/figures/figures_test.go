package figures

import "testing"

func TestMarkdownTable(t *testing.T) {
	var m Markdown
	table := NewTable(&m, "NAME", "A|B", "MS", "")
	table.Row("one", "x", "1.5 ms", "met")
	table.Row("two", "y", "-")
	table.End()
	want := "\n| NAME | A\\|B | MS |  |\n| --- | --- | ---: | --- |\n| one | x | 1.5 ms | met |\n| two | y | - |  |\n"
	if got := m.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.0123456: "0.0123", 1.2345: "1.23", 12.345: "12.3", 123.4: "123", 1234.5: "1,235", 1e7: "10,000,000", -1234: "-1,234"} {
		if got := Digits(v); got != want {
			t.Errorf("%g: %s, want %s", v, got, want)
		}
	}
	if got := Grouped(800000.5); got != "800,000.5" {
		t.Error(got)
	}
	if Disturbed(0, 0) || Disturbed(1, 100) || !Disturbed(20, 100) {
		t.Error("a tenth of a processor is what others may take")
	}
}

func TestSample(t *testing.T) {
	cases := []struct {
		values []float64
		want   Sample
	}{
		{nil, Sample{}},
		{[]float64{7}, Sample{N: 1, Min: 7, Median: 7, P99: 7, Max: 7}},
		{[]float64{201, 1}, Sample{N: 2, Min: 1, Median: 101, P99: 199, Max: 201}},
		{[]float64{201, 1, 101}, Sample{N: 3, Min: 1, Median: 101, P99: 199, Max: 201}},
	}
	for _, c := range cases {
		if got := NewSample(c.values); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.values, got, c.want)
		}
	}
}
