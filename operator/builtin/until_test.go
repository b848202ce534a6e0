package builtin

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

func untilOf(t *testing.T, f *Failures, expression string, policy graph.ErrorPolicy) *Until {
	t.Helper()
	u, err := NewUntil(&graph.Node{
		Name: "orders", Kind: graph.KindSource, KeyFormat: graph.String, ValueFormat: graph.String, OnError: onError(policy),
		Source: &graph.Source{Name: "orders", Kafka: &graph.KafkaSource{Until: expression}},
	}, f)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestUntil: the first record for which it holds ends the batch; what it fails on is left out.
func TestUntil(t *testing.T) {
	for _, test := range []struct {
		values []string
		want   string
		end    int64
	}{
		{[]string{"1", "2"}, "1 2", -1}, {[]string{"1", "99", "2", "99"}, "1", 1}, {[]string{"99"}, "", 0}, {nil, "", -1},
		{[]string{"x", "1", "null", "2"}, "1 2", -1}, {[]string{"1", "x", "2", "99", "x"}, "1 2", 3}, {[]string{"1", "x"}, "1", -1},
	} {
		f := NewFailures(site)
		b := batchOf(test.values...)
		rest, end, err := untilOf(t, f, "int(value) == 99", graph.Skip).Cut(b)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range rest.Records {
			got = append(got, string(rest.Bytes(rest.Records[i].Value)))
		}
		if text := strings.Join(got, " "); text != test.want || end != test.end {
			t.Errorf("%q: %s, end %d; want %s, end %d", test.values, text, end, test.want, test.end)
		}
		if whole := rest == b; whole != (len(rest.Records) == len(b.Records)) {
			t.Errorf("%q: a batch of which all stays is passed on as it is", test.values)
		}
	}
}

func TestUntilFails(t *testing.T) {
	var e *RecordError
	if _, _, err := untilOf(t, NewFailures(site), "int(value) == 99", graph.Fail).Cut(batchOf("1", "x")); !errors.As(err, &e) || e.Part != "until" || e.Offset != 1 {
		t.Errorf("error %v", err)
	}
	f := NewFailures(site)
	got := gather(f)
	if _, _, err := untilOf(t, f, "int(value) == 99", graph.DeadLetter).Cut(batchOf("x", "99", "y")); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(); err != nil || len(got["orders"].Records) != 1 {
		t.Errorf("%v, letters %v: what is behind the end is nobody's", err, got)
	}
	damaged := errors.New("damaged")
	if _, _, err := untilOf(t, f, "true", graph.Fail).Cut(&operator.Batch{Packed: packed{err: damaged}}); !errors.Is(err, damaged) {
		t.Errorf("error %v", err)
	}
	if _, err := NewUntil(&graph.Node{Name: "s", Source: &graph.Source{Kafka: &graph.KafkaSource{Until: "value"}}, KeyFormat: graph.String, ValueFormat: graph.String}, f); err == nil || !strings.Contains(err.Error(), "until") {
		t.Errorf("error %v", err)
	}
}
