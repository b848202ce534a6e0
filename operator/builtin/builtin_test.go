package builtin

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
)

var (
	_ operator.Operator = (*filter)(nil)
	_ operator.Operator = (*mapper)(nil)
	_ operator.Operator = (*flatMap)(nil)
	_ operator.Stateful = (*count)(nil)
	_ operator.Sink     = (*printSink)(nil)
	_ graph.Expressions = expression.Checker{}
)

// batchOf makes records of values, with keys k0, k1… and the value as stream key; "null" is null.
func batchOf(values ...string) *operator.Batch {
	b := &operator.Batch{Arena: []byte("in front")}
	for i, v := range values {
		r := operator.Record{
			Key: b.Put(fmt.Appendf(nil, "k%d", i)), Headers: b.Put([]byte{2, 2, 'h', 2, 'x'}), Timestamp: 100 + int64(i), Offset: int64(i),
			Origin: b.AddOrigin(operator.Origin{Topic: "orders", Partition: int32(i / 2)}), Value: operator.Null, StreamKey: operator.Null,
		}
		if v != "null" {
			r.Value = b.Put([]byte(v))
			r.StreamKey = r.Value
		}
		b.Records = append(b.Records, r)
	}
	return b
}

// collected keeps a line per record, as the batches are only borrowed.
type collected struct {
	lines   []string
	batches int
	last    *operator.Batch
	err     error
}

func (c *collected) Emit(b *operator.Batch) error {
	c.batches++
	c.last = b
	for i := range b.Records {
		r := &b.Records[i]
		o := b.Origins[r.Origin]
		c.lines = append(c.lines, fmt.Sprintf("%s=%s headers=%q stream=%s time=%d %s/%d@%d", show(b, r.Key), show(b, r.Value), b.Bytes(r.Headers),
			show(b, r.StreamKey), r.Timestamp, o.Topic, o.Partition, r.Offset))
	}
	return c.err
}

func show(b *operator.Batch, s operator.Span) string {
	if s.IsNull() {
		return "null"
	}
	return "`" + string(b.Bytes(s)) + "`"
}

func node(o graph.Operator) *graph.Node {
	o.Name = "op"
	return &graph.Node{Name: "op", Kind: graph.KindOperator, Operator: &o, KeyFormat: graph.String, ValueFormat: graph.String,
		OnError: onError(graph.Fail)}
}

// onError is the policy of the only source.
func onError(p graph.ErrorPolicy) graph.ErrorPolicies {
	return graph.ErrorPolicies{{Source: "orders", OnError: graph.OnError{Policy: p}, Topics: []string{"orders"}}}
}

func make1(tb testing.TB, n *graph.Node, failures *Failures) operator.Operator {
	tb.Helper()
	if failures == nil {
		failures = NewFailures(Site{})
	}
	op, err := New(n, Context{Parallelism: 1, MaxParallelism: 128, Failures: failures})
	if err != nil {
		tb.Fatal(err)
	}
	return op
}

func TestOperators(t *testing.T) {
	same := func(i int, key, value, stream string) string {
		return fmt.Sprintf("%s=%s headers=%q stream=%s time=%d orders/%d@%d", key, value, "\x02\x02h\x02x", stream, 100+i, i/2, i)
	}
	tests := []struct {
		name string
		op   graph.Operator
		in   []string
		want []string
	}{
		{"filter none", graph.Operator{Filter: "false"}, []string{"a", "b"}, nil},
		{"filter all", graph.Operator{Filter: "true"}, []string{"a", "null"}, []string{same(0, "`k0`", "`a`", "`a`"), same(1, "`k1`", "null", "null")}},
		{"filter some", graph.Operator{Filter: `value != null && value.startsWith("p")`}, []string{"p", "x", "null", "pp", "p3", "", "p"},
			[]string{same(0, "`k0`", "`p`", "`p`"), same(3, "`k3`", "`pp`", "`pp`"), same(4, "`k4`", "`p3`", "`p3`"), same(6, "`k6`", "`p`", "`p`")}},
		{"filter the last", graph.Operator{Filter: `value == "z"`}, []string{"a", "z"}, []string{same(1, "`k1`", "`z`", "`z`")}},
		{"map the value", graph.Operator{Map: &graph.Map{Value: `"[" + topic + "] " + value`}}, []string{"a", ""},
			[]string{same(0, "`k0`", "`[orders] a`", "`a`"), same(1, "`k1`", "`[orders] `", "``")}},
		{"map the key", graph.Operator{Map: &graph.Map{Key: "offset"}}, []string{"a", "null"}, []string{same(0, "`0`", "`a`", "`a`"), same(1, "`1`", "null", "null")}},
		{"swap", graph.Operator{Map: &graph.Map{Key: "value", Value: "key"}}, []string{"a", "null"},
			[]string{same(0, "`a`", "`k0`", "`a`"), same(1, "null", "`k1`", "null")}},
		{"map all", graph.Operator{Map: &graph.Map{Key: "null", Value: "null", Headers: "[]", Timestamp: "timestamp(7)"}}, []string{"a"},
			[]string{"null=null headers=\"\" stream=`a` time=7000 orders/0@0"}},
		{"map headers", graph.Operator{Map: &graph.Map{Headers: `headers + [{"key": "n", "value": null}]`}}, []string{"a"},
			[]string{"`k0`=`a` headers=\"\\x04\\x02h\\x02x\\x02n\\x01\" stream=`a` time=100 orders/0@0"}},
		{"flatMap", graph.Operator{FlatMap: `value.split(" ")`}, []string{"a b", "", "c"},
			[]string{same(0, "`k0`", "`a`", "`a b`"), same(0, "`k0`", "`b`", "`a b`"), same(1, "`k1`", "``", "``"), same(2, "`k2`", "`c`", "`c`")}},
		{"flatMap to nothing", graph.Operator{FlatMap: `[]`}, []string{"a"}, nil},
		{"flatMap with null", graph.Operator{FlatMap: `[dyn(null), 1]`}, []string{"a"}, []string{same(0, "`k0`", "null", "`a`"), same(0, "`k0`", "`1`", "`a`")}},
		{"count", graph.Operator{Count: true}, []string{"a", "b", "a", "null", "", "null", "a"}, []string{
			same(0, "`a`", "`1`", "`a`"), same(1, "`b`", "`1`", "`b`"), same(2, "`a`", "`2`", "`a`"), same(3, "null", "`1`", "null"),
			same(4, "``", "`1`", "``"), same(5, "null", "`2`", "null"), same(6, "`a`", "`3`", "`a`")}},
		{"nothing", graph.Operator{Count: true}, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			op, out := make1(t, node(test.op), nil), &collected{}
			in := batchOf(test.in...)
			arena, records := string(in.Arena), slices.Clone(in.Records)
			if err := op.Process(in, out); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(out.lines, test.want) {
				t.Errorf("records\n%s\nwant\n%s", strings.Join(out.lines, "\n"), strings.Join(test.want, "\n"))
			}
			if string(in.Arena) != arena || !slices.Equal(in.Records, records) {
				t.Error("the borrowed batch has changed")
			}
			if len(test.want) == 0 && out.batches > 0 {
				t.Error("an empty batch is emitted")
			}
		})
	}
}

// TestFilterShares: a filter copies no bytes, and passes a batch on as it is when it keeps all of it.
func TestFilterShares(t *testing.T) {
	in, out := batchOf("a", "b"), &collected{}
	if err := make1(t, node(graph.Operator{Filter: "true"}), nil).Process(in, out); err != nil || out.last != in {
		t.Errorf("%v, another batch is emitted", err)
	}
	shared := func(b *operator.Batch) error {
		if &b.Arena[0] != &in.Arena[0] || &b.Origins[0] != &in.Origins[0] || len(b.Records) != 1 {
			t.Error("the arena is copied")
		}
		return nil
	}
	if err := make1(t, node(graph.Operator{Filter: `value == "b"`}), nil).Process(in, collect(shared)); err != nil {
		t.Error(err)
	}
}

type collect func(*operator.Batch) error

func (c collect) Emit(b *operator.Batch) error { return c(b) }

var failing = []graph.Operator{
	{Filter: `int(value) > 0`}, {Map: &graph.Map{Key: `int(value)`}}, {Map: &graph.Map{Value: `int(value)`}},
	{Map: &graph.Map{Value: `"much text in front"`, Headers: `[{"key": "a", "value": int(value)}]`}},
	{Map: &graph.Map{Value: `"much text in front"`, Timestamp: `timestamp(int(value))`}}, {FlatMap: `["much text in front", string(int(value))]`},
}

// TestFail: the error names the record, the part of the job and the value.
func TestFail(t *testing.T) {
	for _, o := range failing {
		long := "x" + strings.Repeat("0123456789", 30)
		out := &collected{}
		err := make1(t, node(o), nil).Process(batchOf("1", "2", "3", long), out)
		var e *RecordError
		if !errors.As(err, &e) {
			t.Fatalf("%v: error %v", o, err)
		}
		if e.Topic != "orders" || e.Partition != 1 || e.Offset != 3 || e.Operator != "op" || len(e.Value) != 200 || e.ValueBytes != len(long) ||
			e.FailureClass() != "user" || e.Cause == nil || !errors.Is(err, e.Cause) {
			t.Errorf("%v: error %+v", o, e)
		}
		for _, part := range []string{"record orders/1 offset 3: ", e.Part + " of op: ", `value "x0123`, `… (301 bytes); `, "onError: skip"} {
			if !strings.Contains(e.Error(), part) {
				t.Errorf("%v: error %s has no %s", o, e, part)
			}
		}
		if len(out.lines) > 0 {
			t.Errorf("%v: %v is emitted", o, out.lines)
		}
	}
	err := make1(t, node(graph.Operator{Filter: `value.contains("")`}), nil).Process(batchOf("null"), &collected{})
	if err == nil || !strings.Contains(err.Error(), "; value null; ") {
		t.Errorf("error %v", err)
	}
}

// TestSkip: the record is left out, with nothing of what was made of it before it failed, and counted.
func TestSkip(t *testing.T) {
	for _, o := range failing {
		failures := NewFailures(Site{})
		n := node(o)
		n.OnError = onError(graph.Skip)
		out := &collected{}
		if err := make1(t, n, failures).Process(batchOf("x", "1", "y", "null", "2"), out); err != nil {
			t.Fatal(err)
		}
		records := 2
		if o.FlatMap != "" {
			records = 4
		}
		if skipped := failures.Skipped.Load(); skipped != 3 || len(out.lines) != records {
			t.Errorf("%v: %d skipped, records %v", o, skipped, out.lines)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		node graph.Node
		want string
	}{
		{"no operator", graph.Node{Name: "op", Kind: graph.KindSink}, "make operator op: it is a sink"},
		{"no verb", *node(graph.Operator{}), "none of filter"},
		{"filter", *node(graph.Operator{Filter: "value"}), `compile filter "value": the result is string`},
		{"map", *node(graph.Operator{Map: &graph.Map{Headers: "1"}}), `compile headers "1"`},
		{"flatMap", *node(graph.Operator{FlatMap: "nosuch"}), `compile flatMap "nosuch": undeclared`},
	}
	for _, test := range tests {
		if _, err := New(&test.node, Context{Parallelism: 1, MaxParallelism: 1, Failures: NewFailures(Site{})}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %s", test.name, err, test.want)
		}
	}
}

type packed struct {
	operator.Packed // operators do not open batches piece by piece
	err             error
}

func (p packed) Count() int     { return 1 }
func (p packed) SizeBytes() int { return 1 }
func (p packed) Unpack(b *operator.Batch) error {
	in := batchOf("a")
	b.Records, b.Arena, b.Origins = in.Records, in.Arena, in.Origins
	return p.err
}

// TestErrorsPassUp: of the packed batch, and of the collector.
func TestErrorsPassUp(t *testing.T) {
	damaged := errors.New("damaged")
	ops := []graph.Operator{{Filter: "true"}, {Map: &graph.Map{Value: "key"}}, {FlatMap: "[key]"}, {Count: true}}
	for _, o := range ops {
		out := &collected{}
		if err := make1(t, node(o), nil).Process(&operator.Batch{Packed: packed{}}, out); err != nil || len(out.lines) != 1 {
			t.Errorf("%v: %v, records %v", o, err, out.lines)
		}
		if err := make1(t, node(o), nil).Process(&operator.Batch{Packed: packed{err: damaged}}, out); !errors.Is(err, damaged) {
			t.Errorf("%v: error %v", o, err)
		}
		if err := make1(t, node(o), nil).Process(batchOf("a"), &collected{err: damaged}); !errors.Is(err, damaged) {
			t.Errorf("%v: error %v", o, err)
		}
	}
}

// TestLargeOutput comes in several batches, none of them much larger than emitBytes, and memory that was
// large is given back.
func TestLargeOutput(t *testing.T) {
	value := strings.Repeat("x", 1000)
	many := make([]string, 2000)
	for i := range many {
		many[i] = value
	}
	for _, o := range []graph.Operator{{Map: &graph.Map{Value: "value + value"}}, {FlatMap: "[value, value]"}, {Count: true}} {
		op := make1(t, node(o), nil)
		var records, batches int
		err := op.Process(batchOf(many...), collect(func(b *operator.Batch) error {
			if len(b.Arena) > emitBytes+4096 {
				t.Errorf("%v: a batch of %d bytes", o, len(b.Arena))
			}
			records, batches = records+len(b.Records), batches+1
			return nil
		}))
		want := 2000
		if o.FlatMap != "" {
			want = 4000
		}
		if err != nil || records != want || batches < 8 {
			t.Errorf("%v: %v, %d records in %d batches", o, err, records, batches)
		}
	}
	huge := make1(t, node(graph.Operator{Map: &graph.Map{Value: "value"}}), nil).(*mapper)
	for _, v := range []string{strings.Repeat("x", 8*emitBytes), "small"} {
		if err := huge.Process(batchOf(v), &collected{}); err != nil {
			t.Fatal(err)
		}
	}
	if cap(huge.out.Arena) > 4*emitBytes {
		t.Errorf("%d bytes are kept", cap(huge.out.Arena))
	}
}

// TestManyRecords: elements without bytes come in several batches, too, in order, and memory is given back.
func TestManyRecords(t *testing.T) {
	op := make1(t, node(graph.Operator{FlatMap: "value.split(',')"}), nil).(*flatMap)
	const elements = 100_000
	var records, last int
	out := collect(func(b *operator.Batch) error {
		if len(b.Records) > emitRecords {
			t.Errorf("a batch of %d records", len(b.Records))
		}
		for i := range b.Records {
			if v := string(b.Bytes(b.Records[i].Value)); v != "" {
				if v != strconv.Itoa(last+1) {
					t.Errorf("%s after %d", v, last)
				}
				last++
			}
		}
		records += len(b.Records)
		return nil
	})
	var numbers []string
	for i := range elements {
		numbers = append(numbers, strconv.Itoa(i+1))
	}
	if err := op.Process(batchOf(strings.Repeat(",", elements-1), strings.Join(numbers, ",")), out); err != nil || records != 2*elements || last != elements {
		t.Errorf("%d records up to %d, %v", records, last, err)
	}
	if err := op.Process(batchOf("small"), &collected{}); err != nil {
		t.Fatal(err)
	}
	if cap(op.out.Records) > 4*emitRecords || cap(op.spans) > 4*emitRecords {
		t.Errorf("room for %d records and %d spans is kept", cap(op.out.Records), cap(op.spans))
	}
	if err := op.Process(batchOf(strings.Repeat(",", expression.MaxListElements)), &collected{}); err == nil || !strings.Contains(err.Error(), "elements, at most") {
		t.Errorf("too many: %v", err)
	}
}

// TestCountState: counts go on after a restore, also with another parallelism.
func TestCountState(t *testing.T) {
	first := make1(t, node(graph.Operator{Count: true}), nil).(operator.Stateful)
	keys := []string{"a", "b", "c", "d", "e", "f", "null", ""}
	for range 3 {
		if err := first.Process(batchOf(keys...), &collected{}); err != nil {
			t.Fatal(err)
		}
	}
	piece, err := first.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		in := batchOf(key)
		owner := graph.SubtaskOfKeyGroup(graph.KeyGroup(in.Bytes(in.Records[0].StreamKey), 128), 3, 128)
		op, err := New(node(graph.Operator{Count: true}), Context{Subtask: owner, Parallelism: 3, MaxParallelism: 128, Failures: NewFailures(Site{})})
		if err != nil {
			t.Fatal(err)
		}
		out := &collected{}
		if err := op.(operator.Stateful).Restore(piece); err != nil {
			t.Fatal(err)
		}
		if err := op.Process(in, out); err != nil || !strings.Contains(out.lines[0], "=`4` ") {
			t.Errorf("key %d: %v, %v", i, err, out.lines)
		}
	}
	if err := first.Restore([]byte("nonsense")); err == nil {
		t.Error("nonsense is restored")
	}
}

func TestKeyer(t *testing.T) {
	edge := &graph.Edge{To: "count", Partitioning: graph.Hash, KeyBy: `int(value)`, KeyFormat: graph.String, ValueFormat: graph.String,
		OnError: onError(graph.Skip)}
	failures := NewFailures(Site{})
	k, err := NewKeyer(edge, failures)
	if err != nil {
		t.Fatal(err)
	}
	b := batchOf("7", "x", "08")
	arena, spans, err := k.Keys(b, []byte("kept"), []operator.Span{operator.Null})
	if err != nil || string(arena) != "kept78" || failures.Skipped.Load() != 1 ||
		!slices.Equal(spans, []operator.Span{operator.Null, {Off: 4, Len: 1}, SkippedKey, {Off: 5, Len: 1}}) {
		t.Errorf("%q, %v, %v, %d skipped", arena, spans, err, failures.Skipped.Load())
	}
	edge.OnError = onError(graph.Fail)
	if k, err = NewKeyer(edge, failures); err != nil {
		t.Fatal(err)
	}
	var e *RecordError
	if _, _, err = k.Keys(b, nil, nil); !errors.As(err, &e) || e.Offset != 1 || e.Operator != "count" || !strings.Contains(err.Error(), "keyBy of count") {
		t.Errorf("error %v", err)
	}
	edge.KeyBy = "value"
	if k, err = NewKeyer(edge, failures); err != nil {
		t.Fatal(err)
	}
	arena, spans, err = k.Keys(batchOf("", "null"), nil, nil)
	if err != nil || arena == nil || !slices.Equal(spans, []operator.Span{{}, operator.Null}) {
		t.Errorf("%v, %v, %v: want empty and null apart", arena, spans, err)
	}
	edge.KeyBy = "["
	if _, err := NewKeyer(edge, failures); err == nil || !strings.Contains(err.Error(), "make keyBy of count: compile keyBy") {
		t.Errorf("error %v", err)
	}
}
