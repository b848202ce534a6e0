package tidy

import (
	"slices"
	"strings"
	"testing"
)

// fileRules are run over every Go file.
var fileRules = []func(*File) []Fault{Imports, Pure, Size, Documented, Habits}

func TestRepository(t *testing.T) {
	files, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found only %d files; is the root right?", len(files))
	}
	faults := Dependencies(files)
	for _, f := range files {
		faults = append(faults, Text(f)...)
		if f.AST == nil {
			continue
		}
		for _, rule := range fileRules {
			faults = append(faults, rule(f)...)
		}
	}
	for _, fault := range faults {
		t.Error(fault)
	}
	t.Logf("%d files", len(files))
}

// Packages and files in the tables must exist, else a rename would switch a rule off.
func TestTablesNameWhatExists(t *testing.T) {
	files, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	names, dirs := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		names[f.Name], dirs[f.Dir()] = true, true
	}
	for _, dir := range purePackages {
		if !dirs[dir] {
			t.Errorf("pure package %s does not exist", dir)
		}
	}
	for _, name := range pureFiles {
		if !names[name] {
			t.Errorf("pure file %s does not exist", name)
		}
	}
}

// Each rule must see the breach that it is there for, and nothing where there is none.
func TestRules(t *testing.T) {
	long := strings.Repeat("\tx++\n", maxFunctionLines)
	cases := []struct {
		name, file, text, want string // want: part of the only fault; empty: no fault
	}{
		{"jobmanager imports taskmanager", "jobmanager/a.go", `package jobmanager; import _ "` + Module + `/taskmanager/subtask"`, "only cmd wires the task manager"},
		{"cmd imports both", "cmd/x/a.go", `package main; import (_ "` + Module + `/taskmanager"; _ "` + Module + `/jobmanager")`, ""},
		{"core imports cmd", "web/a.go", `package web; import _ "` + Module + `/cmd/internal/demo"`, "cmd is the top"},
		{"proto at the edge", "jobmanager/wire_job.go", `package jobmanager; import _ "` + Module + `/proto/sluice/v1"`, ""},
		{"proto inside", "jobmanager/job_loop.go", `package jobmanager; import _ "` + Module + `/proto/sluice/v1"`, "protobuf types stay"},
		{"kafka-go outside of wire", "connector/kafka/a.go", `package kafka; import _ "github.com/segmentio/kafka-go/protocol/fetch"`, "only place that knows kafka-go"},
		{"zk outside of its adapter", "connector/kafka/a.go", `package kafka; import _ "github.com/go-zookeeper/zk"`, "only adapter to ZooKeeper"},
		{"franz-go in a unit test", "spec/a_test.go", `package spec; import _ "github.com/twmb/franz-go/pkg/kgo"`, ""},
		{"franz-go in the product", "spec/a.go", `package spec; import _ "github.com/twmb/franz-go/pkg/kgo"`, "not a part of the product"},
		{"pure imports pure", "graph/a.go", `package graph; import (_ "` + Module + `/ident"; _ "fmt")`, ""},
		{"pure imports impure", "graph/a.go", `package graph; import _ "` + Module + `/spec"`, "a pure package imports"},
		{"pure imports a module", "graph/a.go", `package graph; import _ "golang.org/x/sync/errgroup"`, "a pure package imports"},
		{"pure does I/O", "graph/a.go", `package graph; import _ "os/exec"`, "does I/O"},
		{"pure reads the clock", "graph/a.go", "package graph\nimport \"time\"\nvar x = time.Now()", "time.Now"},
		{"pure starts a goroutine", "checkpoint/a.go", "package checkpoint\nfunc x() { go x() }", "starts a goroutine"},
		{"test of a pure package", "checkpoint/a_test.go", "package checkpoint\nfunc x() { go x() }", ""},
		{"pure file", "taskmanager/exchange/credit.go", "package exchange\nfunc x() { go x() }", "starts a goroutine"},
		{"long function", "spec/a.go", "package spec\nfunc x() {\n" + long + "}", "x has 72 lines"},
		{"long file", "spec/a.go", "package spec\n" + strings.Repeat("\n", maxFileLines), "has 501 lines"},
		{"many parameters", "spec/a.go", "package spec\nfunc x(a, b, c, d, e, f, g int) {}", "7 parameters"},
		{"undocumented function", "spec/a.go", "package spec\nfunc X() {}", "X is exported"},
		{"undocumented method", "spec/a.go", "package spec\n// T is.\ntype T[K any] struct{}\nfunc (t *T[K]) Do() {}\nfunc (t *T[K]) String() string { return \"\" }", "Do is exported"},
		{"method of an unexported type", "spec/a.go", "package spec\ntype t struct{}\nfunc (t) Do() {}", ""},
		{"undocumented constant", "spec/a.go", "package spec\nconst (\n\tA = 1\n\tB = 2 // of B\n)", "A is exported"},
		{"documented group", "spec/a.go", "package spec\n// Both.\nconst (\n\tA = 1\n\tB = 2\n)", ""},
		{"empty package name", "spec/util/a.go", "package util", "says nothing"},
		{"init", "spec/a.go", "package spec\nfunc init() {}", "init function"},
		{"context in a struct", "spec/a.go", "package spec\nimport \"context\"\ntype t struct{ ctx context.Context }", "context in a struct"},
		{"errors by ==", "spec/a.go", "package spec\nimport \"io\"\nfunc x(err error) bool { return err == io.EOF }", "errors.Is"},
		{"errors by nil", "spec/a.go", "package spec\nfunc x(err error) bool { return err == nil }", ""},
		{"sleeping unit test", "spec/a_test.go", "package spec\nimport \"time\"\nfunc x() { time.Sleep(1) }", "sleeps"},
		{"sleeping integration test", "test/integration/a_test.go", "package x\nimport \"time\"\nfunc x() { time.Sleep(1) }", ""},
		{"machine path", "docs/a.md", "see /home/me/code", "path of one machine"},
		{"unfinished", "spec/a.go", "package spec\n// TODO: more", "unfinished"},
		{"generated", "spec/a.go", "// Code generated by x. DO NOT EDIT.\npackage spec\nfunc X() {}\nfunc init() {}", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file, err := Parse(c.file, c.text)
			if err != nil {
				t.Fatal(err)
			}
			faults := Text(file)
			if file.AST != nil {
				for _, rule := range fileRules {
					faults = append(faults, rule(file)...)
				}
			}
			switch {
			case c.want == "" && len(faults) > 0:
				t.Errorf("faults %v, want none", faults)
			case c.want != "" && (len(faults) != 1 || !strings.Contains(faults[0].Text, c.want)):
				t.Errorf("faults %v, want one with %q", faults, c.want)
			}
		})
	}
}

func TestDependenciesNeedAReason(t *testing.T) {
	var files []*File
	for name, text := range map[string]string{
		"go.mod":                              "module x\nrequire (\n\texample.com/a v1.0.0\n\texample.com/a/sub v1.0.0 // indirect\n\texample.com/b v1.0.0\n)\n",
		"docs/decisions/0001-dependencies.md": "`example.com/a` is needed.\n",
		"x/a.go":                              "package x\nimport (\n\"fmt\"\n_ \"example.com/a/pkg\"\n_ \"example.com/a/sub/pkg\"\n_ \"example.com/b\"\n)",
	} {
		file, err := Parse(name, text)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	var got []string
	for _, fault := range Dependencies(files) {
		got = append(got, fault.String())
	}
	if len(got) != 2 || !strings.Contains(got[0], "example.com/a/sub") || !strings.Contains(got[1], "example.com/b") {
		t.Errorf("faults %q, want one for a/sub and one for b", slices.Clip(got))
	}
}
