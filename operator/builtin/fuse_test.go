package builtin

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/operator"
)

// filterAndMap are a filter with a map behind it, by a policy, with the letters that they write.
func filterAndMap(t *testing.T, policy graph.ErrorPolicy) (f, m operator.Operator, letters *Failures, got map[string]*operator.Batch) {
	t.Helper()
	letters = NewFailures(site)
	got = gather(letters)
	made := func(name string, o graph.Operator) operator.Operator {
		n := node(o)
		n.Name, n.ValueFormat, n.OnError = name, graph.JSON, onError(policy)
		return make1(t, n, letters)
	}
	f = made("kept", graph.Operator{Filter: "value.n % 3 != 0"})
	m = made("short", graph.Operator{Map: &graph.Map{Value: `{"twice": value.n * 2, "of": value.of}`}})
	return f, m, letters, got
}

func isMap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("short: %w", err)
}

func behind(f, m operator.Operator) func(*operator.Batch, operator.Collector) error {
	return func(b *operator.Batch, out operator.Collector) error {
		return f.Process(b, collect(func(x *operator.Batch) error { return isMap(m.Process(x, out)) }))
	}
}

// TestFused: a filter and a map that are fused do what they do one behind the other, with records that pass, stay behind,
// and fail in the filter or the map, by every policy.
func TestFused(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, policy := range []graph.ErrorPolicy{graph.Fail, graph.Skip, graph.DeadLetter} {
		for range 200 {
			var values []string
			for range random.IntN(12) {
				n := random.IntN(100)
				values = append(values, []string{
					fmt.Sprintf(`{"n":%d,"of":"x%d"}`, n, n), fmt.Sprintf(`{"of":"x","n":%d}`, n), fmt.Sprintf(`{"n":%d}`, n), `{"of":1}`, "null", "no JSON",
				}[max(random.IntN(12)-6, 0)])
			}
			var results [2]string
			for i := range results {
				f, m, letters, got := filterAndMap(t, policy)
				process := behind(f, m)
				if i == 1 {
					both, ok := f.(operator.Fuser).Fuse(m, isMap)
					if !ok {
						t.Fatal("they are not fused")
					}
					process = both.Process
				}
				out := &collected{}
				err := process(batchOf(values...), out)
				if err != nil { // what came before may be emitted, or not
					results[i] = err.Error()
					continue
				}
				if err := letters.Flush(); err != nil {
					t.Fatal(err)
				}
				var dead []string
				for source, b := range got {
					for k := range b.Records {
						dead = append(dead, fmt.Sprintf("%s %s %s", source, b.Bytes(b.Records[k].Value), headersOf(t, b.Bytes(b.Records[k].Headers))))
					}
				}
				slices.Sort(dead) // they come in another order
				results[i] = strings.Join(append(out.lines, dead...), "\n")
			}
			if results[0] != results[1] && !(policy == graph.Fail && mixed(values)) {
				t.Fatalf("%v, %q: one behind the other\n%s\nfused\n%s", policy, values, results[0], results[1])
			}
		}
	}
}

// mixed says that values fail in both: which is first differs, as a filter sees all records before a map sees one.
func mixed(values []string) bool {
	inFilter := slices.ContainsFunc(values, func(v string) bool { return !strings.Contains(v, `"n"`) })
	inMap := slices.ContainsFunc(values, func(v string) bool { return !strings.Contains(v, `"of"`) })
	return inFilter && inMap
}

// TestFuseRefuses what is no map, and a map that sees keys or values otherwise.
func TestFuseRefuses(t *testing.T) {
	f := make1(t, node(graph.Operator{Filter: `value == "x"`}), nil).(operator.Fuser)
	other, otherKey := node(graph.Operator{Map: &graph.Map{Key: "value"}}), node(graph.Operator{Map: &graph.Map{Value: "key"}})
	other.ValueFormat, otherKey.KeyFormat = graph.Bytes, graph.Bytes
	for name, next := range map[string]operator.Operator{
		"a filter": make1(t, node(graph.Operator{Filter: "true"}), nil), "count": make1(t, node(graph.Operator{Count: true}), nil), "another format": make1(t, other, nil),
		"another format of keys": make1(t, otherKey, nil),
	} {
		if _, ok := f.Fuse(next, isMap); ok {
			t.Errorf("fused with %s", name)
		}
	}
}

// TestFusedErrorsPassUp: an error of who receives is passed up by the map.
func TestFusedErrorsPassUp(t *testing.T) {
	f, m, _, _ := filterAndMap(t, graph.Fail)
	both, _ := f.(operator.Fuser).Fuse(m, isMap)
	over := errors.New("over")
	if err := both.Process(batchOf(`{"n":1,"of":2}`), collect(func(*operator.Batch) error { return over })); !errors.Is(err, over) || err.Error() != "short: over" {
		t.Errorf("got %v", err)
	}
}

// TestFusedLargeOutput: what the map makes is emitted on the way, and nothing twice.
func TestFusedLargeOutput(t *testing.T) {
	var values []string
	for i := range 3000 {
		values = append(values, fmt.Sprintf(`{"n":%d,"of":"%s"}`, i, strings.Repeat("x", 200)))
	}
	var lines [2][]string
	for i := range lines {
		f, m, _, _ := filterAndMap(t, graph.Fail)
		process := behind(f, m)
		if i == 1 {
			both, _ := f.(operator.Fuser).Fuse(m, isMap)
			process = both.Process
		}
		out := &collected{}
		if err := process(batchOf(values...), out); err != nil {
			t.Fatal(err)
		}
		if out.batches < 2 {
			t.Errorf("%d batches, want several", out.batches)
		}
		lines[i] = out.lines
	}
	if len(lines[0]) != 2000 || !slices.Equal(lines[0], lines[1]) {
		t.Errorf("%d lines one behind the other, %d fused", len(lines[0]), len(lines[1]))
	}
}
