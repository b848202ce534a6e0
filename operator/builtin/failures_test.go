package builtin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

var site = Site{Job: "paid", JobID: "id-1", Attempt: 3, Subtask: ident.Subtask{Vertex: "v", Index: 2}}

// headersOf decodes a header section into KEY=VALUE.
func headersOf(t *testing.T, section []byte) []string {
	t.Helper()
	var out []string
	part := func() string {
		length, n := binary.Varint(section)
		if n <= 0 || length < -1 || int(length) > len(section)-n {
			t.Fatalf("damaged headers: %q", section)
		}
		section = section[n:]
		if length < 0 {
			return "null"
		}
		text := string(section[:length])
		section = section[length:]
		return text
	}
	count, n := binary.Varint(section)
	section = section[n:]
	for range count {
		out = append(out, part()+"="+part())
	}
	if len(section) > 0 {
		t.Errorf("%d bytes behind the headers", len(section))
	}
	return out
}

// gather takes what is handed on, by source.
func gather(f *Failures) map[string]*operator.Batch {
	got := map[string]*operator.Batch{}
	f.Bind(func(source string, b *operator.Batch) error {
		if got[source] == nil {
			got[source] = &operator.Batch{}
		}
		for i := range b.Records {
			got[source].AppendFrom(b, &b.Records[i])
		}
		return nil
	})
	return got
}

// TestDeadLetters: a letter is the record as it was, and says why it failed, where, from where, in which
// attempt; what does not fail goes on.
func TestDeadLetters(t *testing.T) {
	for _, o := range failing {
		f := NewFailures(site)
		got := gather(f)
		n := node(o)
		n.OnError = onError(graph.DeadLetter)
		op := make1(t, n, f)
		b := batchOf("1", "x", "null")
		own := binary.AppendVarint(nil, 2)
		for _, text := range []string{"a", "1"} {
			own = appendText(own, text)
		}
		own = binary.AppendVarint(appendText(own, "a"), -1)
		b.Records[1].Headers, b.Records[1].Timestamp = b.Put(own), 77
		out := &collected{}
		if err := op.Process(b, out); err != nil {
			t.Fatal(err)
		}
		if len(got) > 0 {
			t.Errorf("%v: handed on before it was asked for", o)
		}
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		all := got["orders"]
		if all == nil || len(all.Records) != 2 || f.DeadLettered.Load() != 2 || f.Skipped.Load() != 0 || len(out.lines) == 0 {
			t.Fatalf("%v: letters %v, records %v", o, got, out.lines)
		}
		r := all.Records[0]
		if string(all.Bytes(r.Key)) != "k1" || string(all.Bytes(r.Value)) != "x" || r.Timestamp != 77 || r.Offset != 1 || all.Origins[r.Origin].Topic != "orders" {
			t.Errorf("%v: letter %+v", o, r)
		}
		if !all.Records[1].Value.IsNull() {
			t.Errorf("%v: null became %q", o, all.Bytes(all.Records[1].Value))
		}
		headers := headersOf(t, all.Bytes(r.Headers))
		if !slices.Equal(headers[:2], []string{"a=1", "a=null"}) || !strings.HasPrefix(headers[2], "sluice.error.message=") || headers[2] == "sluice.error.message=" {
			t.Errorf("%v: headers %q", o, headers)
		}
		want := []string{"sluice.error.class=expression", "sluice.error.node=op", "sluice.source.name=orders", "sluice.source.topic=orders",
			"sluice.source.partition=0", "sluice.source.offset=1", "sluice.source.timestamp=77", "sluice.job=paid", "sluice.job.id=id-1",
			"sluice.attempt=3", "sluice.vertex=v", "sluice.subtask=2"}
		if rest := slices.DeleteFunc(headers[3:], func(h string) bool { return strings.HasPrefix(h, "sluice.error.part=") }); !slices.Equal(rest, want) {
			t.Errorf("%v: headers %q, want %q", o, rest, want)
		}
	}
}

// TestDeadLettersOfFormats: what is not in the format of the source is a dead letter too.
func TestDeadLettersOfFormats(t *testing.T) {
	for format, value := range map[graph.Format]string{graph.JSON: `{"half":`, graph.String: "\xff"} {
		f := NewFailures(site)
		got := gather(f)
		n := node(graph.Operator{Filter: `value != null && string(value) != ""`})
		n.ValueFormat, n.OnError = format, onError(graph.DeadLetter)
		if err := make1(t, n, f).Process(batchOf(value), &collected{}); err != nil {
			t.Fatal(err)
		}
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		all := got["orders"]
		if headers := headersOf(t, all.Bytes(all.Records[0].Headers)); !slices.Contains(headers, "sluice.error.class=format") || !slices.Contains(headers, "sluice.error.part=filter") {
			t.Errorf("%s: headers %q", format, headers)
		}
		if string(all.Bytes(all.Records[0].Value)) != value {
			t.Errorf("%s: value %q", format, all.Bytes(all.Records[0].Value))
		}
	}
}

// TestPolicyOfTheOwnSource: of several sources the one that a record was read by decides.
func TestPolicyOfTheOwnSource(t *testing.T) {
	f := NewFailures(site)
	got := gather(f)
	dead := func(topic string) graph.OnError {
		return graph.OnError{Policy: graph.DeadLetter, DeadLetterTopic: topic}
	}
	failed := f.Of("op", graph.ErrorPolicies{
		{Source: "a", OnError: dead("dead-a"), Topics: []string{"a", "shared"}}, {Source: "b", OnError: dead("dead-b"), Topics: []string{"b", "shared"}},
		{Source: "c", OnError: graph.OnError{Policy: graph.Skip}, Topics: []string{"c", "a"}}, {Source: "d", OnError: graph.OnError{Policy: graph.Fail}, Topics: []string{"d"}},
	})
	cause := errors.New("no")
	fate := func(topic string) string {
		b := batchOf("x")
		b.Origins[0].Topic = topic
		err := failed(b, 0, "filter", cause)
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		switch {
		case err != nil:
			return "fail"
		case len(got) == 0:
			return "skip"
		}
		fate := ""
		for source := range got {
			fate += source
		}
		clear(got)
		return fate
	}
	for topic, want := range map[string]string{"a": "a", "b": "b", "c": "skip", "d": "fail", "shared": "fail", "unknown": "fail"} {
		if fate := fate(topic); fate != want {
			t.Errorf("a record of topic %s: %s, want %s", topic, fate, want)
		}
	}
}

// TestManyDeadLetters: they are handed on in batches of bounded size, none is lost, and the text of an
// error is cut.
func TestManyDeadLetters(t *testing.T) {
	f := NewFailures(site)
	batches, records := 0, 0
	f.Bind(func(_ string, b *operator.Batch) error {
		batches++
		records += len(b.Records)
		if len(b.Arena) > 2*emitBytes {
			t.Errorf("a batch of %d bytes", len(b.Arena))
		}
		for i := range b.Records {
			for _, h := range headersOf(t, b.Bytes(b.Records[i].Headers)) {
				if len(h) > len(HeaderMessage)+1+MaxLetterMessageBytes {
					t.Fatalf("header %q", h)
				}
			}
		}
		return nil
	})
	failed := f.Of("op", onError(graph.DeadLetter))
	b := batchOf(strings.Repeat("v", 500))
	for range 2000 {
		if err := failed(b, 0, "filter", errors.New(strings.Repeat("é", MaxLetterMessageBytes))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Flush(), f.Flush()); err != nil {
		t.Fatal(err)
	}
	if batches < 8 || records != 2000 {
		t.Errorf("%d records in %d batches", records, batches)
	}
	full := fmt.Errorf("no room")
	f.Bind(func(string, *operator.Batch) error { return full })
	if err := failed(b, 0, "filter", full); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

// TestStopped: a batch of records that keep the interpreter busy does not hold up the end, and none of them is skipped.
func TestStopped(t *testing.T) {
	for _, o := range []graph.Operator{{Filter: "value.lowerAscii() == 'x'"}, {Map: &graph.Map{Value: "value.lowerAscii()"}}, {FlatMap: "[value.lowerAscii()]"}} {
		f := NewFailures(site)
		n := node(o)
		n.OnError = onError(graph.Skip)
		op := make1(t, n, f)
		if err := op.Process(batchOf("X"), &collected{}); err != nil {
			t.Fatal(err)
		}
		f.Stop()
		if err := op.Process(batchOf("X"), &collected{}); !errors.Is(err, expression.ErrStopped) || f.Skipped.Load() != 0 {
			t.Errorf("%v: %v, %d records skipped", o, err, f.Skipped.Load())
		}
	}
}
