package task

import (
	"fmt"
	"testing"
)

func TestTasks(t *testing.T) {
	for name, c := range map[string]struct {
		task       Task
		value, out string
		keep       bool
	}{
		"prefix":       {Task{Prefix: "yes"}, "yesterday 1", "yesterday 1", true},
		"other prefix": {Task{Prefix: "yes"}, "no", "", false},
		"word":         {Task{Word: "yes"}, "yes 1", "yes 1", true},
		"other word":   {Task{Word: "yes"}, "yesterday 1", "", false},
		"json": {Task{JSON: true}, `{"seq":"007", "x":{"a":[1]}, "durationMs":251,"status":499,"region":"eu"}`,
			`{"durationMs":251,"late":true,"region":"eu","seq":"007"}`, true},
		"on time":     {Task{JSON: true}, `{"durationMs":250,"status":200,"region":"a\"b","seq":""}`, `{"durationMs":250,"late":false,"region":"a\"b","seq":""}`, true},
		"json failed": {Task{JSON: true}, `{"status":500}`, "", false},
	} {
		out, keep, err := c.task.Start()(nil, []byte(c.value))
		if err != nil || keep != c.keep || keep && string(out) != c.out {
			t.Errorf("%s: %q, %t, %v; want %q, %t", name, out, keep, err, c.out, c.keep)
		}
	}
	if (&Task{}).Start() != nil {
		t.Error("a copy does something")
	}
	if _, _, err := (&Task{JSON: true}).Start()(nil, []byte("{")); err == nil {
		t.Error("half an object is read")
	}
}

func TestCountsStay(t *testing.T) {
	do := (&Task{Count: true}).Start()
	var outs [][]byte
	const n = 30_000 // more than a chunk holds
	for i := range n {
		out, keep, err := do(fmt.Appendf(nil, "key-%d", i%2), nil)
		if err != nil || !keep {
			t.Fatal(keep, err)
		}
		outs = append(outs, out)
	}
	for i, out := range outs {
		if want := fmt.Sprint(i/2 + 1); string(out) != want {
			t.Fatalf("count %d is %s, want %s", i, out, want)
		}
	}
}
