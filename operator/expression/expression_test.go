package expression

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// row is a record as tests write it; a nil key or value is null.
type row struct {
	key, value []byte
	headers    [][2][]byte
	timestamp  int64
}

func text(s string) []byte { return []byte(s) }

func batchOf(rows ...row) *operator.Batch {
	b := &operator.Batch{Arena: []byte("some bytes in front")}
	for i, w := range rows {
		r := operator.Record{Key: b.Put(w.key), Value: b.Put(w.value), Headers: operator.Null, StreamKey: operator.Null,
			Timestamp: w.timestamp, Offset: 1000 + int64(i), Origin: b.AddOrigin(operator.Origin{Topic: "orders", Partition: 3})}
		if w.headers != nil {
			r.Headers = b.Put(encodeHeaders(w.headers))
		}
		b.Records = append(b.Records, r)
	}
	return b
}

func encodeHeaders(headers [][2][]byte) []byte {
	p := binary.AppendVarint(nil, int64(len(headers)))
	for _, h := range headers {
		for _, part := range h {
			if part == nil {
				p = binary.AppendVarint(p, -1)
				continue
			}
			p = append(binary.AppendVarint(p, int64(len(part))), part...)
		}
	}
	return p
}

// evaluate runs an expression on one record and prints the result.
func evaluate(t *testing.T, source string, use graph.Use, key, value graph.Format, w row) string {
	t.Helper()
	p, err := Compile(source, use, key, value)
	if err != nil {
		return "compile: " + describe(err)
	}
	r := NewRecord(key, value)
	r.Set(batchOf(w), 0)
	return run(t, p, r)
}

func run(t *testing.T, p *Program, r *Record) string {
	t.Helper()
	switch p.use {
	case graph.UseFilter:
		return show(p.Bool(r))
	case graph.UseTimestamp:
		return show(p.Timestamp(r))
	case graph.UseTopic:
		return show(p.Topic(r))
	case graph.UsePartition:
		return show(p.Partition(r))
	case graph.UseFlatMap:
		arena, spans, err := p.AppendList(r, text("before"), nil)
		if err != nil {
			return "error: " + err.Error()
		}
		var all []string
		for _, s := range spans {
			all = append(all, showSpan(arena, s))
		}
		return fmt.Sprintf("%v %s", all, p.ResultFormat())
	case graph.UseHeaders:
		arena, span, err := p.AppendHeaders(r, text("before"))
		if err != nil {
			return "error: " + err.Error()
		}
		b := operator.Batch{Arena: arena}
		var all []string
		if err := eachHeader(b.Bytes(span), func(k, v []byte) error { all = append(all, fmt.Sprintf("%s=%s", k, quoteOrNull(v))); return nil }); err != nil {
			t.Errorf("damaged headers: %v", err)
		}
		return fmt.Sprint(all)
	}
	arena, span, err := p.Append(r, text("before"))
	if err != nil {
		return "error: " + err.Error()
	}
	return showSpan(arena, span) + " " + string(p.ResultFormat())
}

func show(v any, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return fmt.Sprint(v)
}

func showSpan(arena []byte, s operator.Span) string {
	b := operator.Batch{Arena: arena}
	return quoteOrNull(b.Bytes(s))
}

func quoteOrNull(p []byte) string {
	if p == nil {
		return "null"
	}
	if !utf8.Valid(p) || bytes.ContainsFunc(p, unicode.IsControl) {
		return fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("`%s`", p)
}

func describe(err error) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, describe(e))
		}
		return strings.Join(all, " | ")
	}
	var e *Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	line, column := e.Position()
	s := fmt.Sprintf("%d:%d %s", line, column, e)
	if e.Hint() != "" {
		s += " (" + e.Hint() + ")"
	}
	return s
}
