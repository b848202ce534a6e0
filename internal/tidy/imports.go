package tidy

import (
	"go/ast"
	"slices"
	"strings"
)

// purePackages hold decisions: standard library only, no I/O, no clock, no goroutine.
var purePackages = []string{
	"ident", "graph", "operator", "state", "slots", "checkpoint", "checkpoint/manifest", "connector/kafka/transaction",
	"jobmanager/commit", "jobmanager/discovery", "jobmanager/explain", "jobmanager/job", "jobmanager/placement", "jobmanager/publish",
}

// failpoints is no pure package, but is nothing at all without its build tag.
const failpoints = "internal/failpoint"

// pureFiles are held to the same rules as purePackages in a package that is not pure as a whole.
var pureFiles = []string{
	"taskmanager/subtask/aligner.go", "taskmanager/exchange/credit.go", "connector/kafka/splits.go", "connector/kafka/murmur2.go",
}

// impureStd are packages of the standard library that a pure package has no use for.
var impureStd = []string{"os", "net", "syscall", "log", "io/ioutil", "math/rand", "database", "testing"}

// clock are the names in package time that read a clock or wait for it.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// reserved says who alone may import a package (and what is below it). Tests of any package may, where
// tests is set.
var reserved = []struct {
	path    string
	by      []string // directories, and what is below them
	tests   bool
	because string
}{
	{path: Module + "/cmd", by: []string{"cmd"}, because: "dependencies point downwards; cmd is the top"},
	{path: Module + "/jobmanager", by: []string{"jobmanager", "cmd", "test"}, because: "only cmd wires the job manager; the task manager speaks to it by the protocol"},
	{path: Module + "/taskmanager", by: []string{"taskmanager", "cmd", "test", "bench/scale"}, because: "only cmd wires the task manager; the job manager speaks to it by the protocol"},
	{path: Module + "/test", by: []string{"test", "bench"}, because: "nothing depends on tests"},
	{path: "github.com/segmentio/kafka-go", by: []string{"connector/kafka/wire", "bench/rivals"}, because: "connector/kafka/wire is the only place that knows kafka-go, but for rivals of the benchmark that are made of it"},
	{path: "github.com/go-zookeeper/zk", by: []string{"connector/kafka/zookeeper", "test"}, because: "connector/kafka/zookeeper is the only adapter to ZooKeeper, and checks what that library does not"},
	{path: "github.com/twmb/franz-go", by: []string{"cmd/internal/demo", "test", "bench"}, tests: true, because: "franz-go is the independent client of tests and the demo's broker, not a part of the product"},
	{path: "go.etcd.io/bbolt", by: []string{"checkpoint/boltstore"}, because: "checkpoint/boltstore is the only adapter to bbolt"},
	{path: "cel.dev/cel-go", by: []string{"operator/expression"}, because: "operator/expression is the only adapter to CEL"},
	{path: "go.yaml.in/yaml", by: []string{"spec"}, because: "spec is the only reader of job files"},
}

const generatedProto = Module + "/proto/sluice"

// protoFile tells whether a file may see generated protobuf types: the edge of a shell, by its name.
func protoFile(f *File) bool {
	return strings.HasPrefix(f.Base(), "wire") || strings.HasPrefix(f.Base(), "grpc_") || f.Under("cmd", "proto", "test")
}

// Imports checks who imports what.
func Imports(f *File) []Fault {
	var faults []Fault
	for i, imported := range f.Imports {
		at := f.AST.Imports[i].Pos()
		if within(imported, generatedProto) && !protoFile(f) && !f.Generated {
			faults = append(faults, f.fault(at, "imports %s; protobuf types stay in files named wire*.go or grpc_*.go", imported))
		}
		for _, rule := range reserved {
			if within(imported, rule.path) && !f.Under(rule.by...) && !(rule.tests && f.IsTest()) {
				faults = append(faults, f.fault(at, "imports %s: %s", imported, rule.because))
			}
		}
	}
	return faults
}

func within(imported, parent string) bool {
	return imported == parent || strings.HasPrefix(imported, parent+"/")
}

func pure(f *File) bool {
	return !f.IsTest() && (slices.Contains(purePackages, f.Dir()) || slices.Contains(pureFiles, f.Name))
}

// Pure checks that a pure package imports nothing impure, reads no clock and starts no goroutine.
func Pure(f *File) []Fault {
	if !pure(f) {
		return nil
	}
	var faults []Fault
	for i, imported := range f.Imports {
		own, isOwn := strings.CutPrefix(imported, Module+"/")
		first, _, _ := strings.Cut(imported, "/")
		switch {
		case isOwn && (slices.Contains(purePackages, own) || own == failpoints):
		case isOwn, strings.Contains(first, "."):
			faults = append(faults, f.fault(f.AST.Imports[i].Pos(), "a pure package imports %s", imported))
		case slices.ContainsFunc(impureStd, func(std string) bool { return within(imported, std) }):
			faults = append(faults, f.fault(f.AST.Imports[i].Pos(), "a pure package imports %s, which does I/O or rolls dice", imported))
		}
	}
	ast.Inspect(f.AST, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			faults = append(faults, f.fault(node.Pos(), "a pure package starts a goroutine"))
		case *ast.SelectorExpr:
			if of, ok := node.X.(*ast.Ident); ok && of.Name == "time" && slices.Contains(clock, node.Sel.Name) {
				faults = append(faults, f.fault(node.Pos(), "a pure package uses time.%s; time is an argument", node.Sel.Name))
			}
		}
		return true
	})
	return faults
}

// Dependencies checks that every module that the code imports is named in the record of dependencies.
func Dependencies(files []*File) []Fault {
	const record = "docs/decisions/0001-dependencies.md"
	texts := map[string]string{}
	for _, f := range files {
		if f.Name == record || f.Name == "go.mod" {
			texts[f.Name] = f.Text
		}
	}
	modules := requiredModules(texts["go.mod"])
	seen := map[string]bool{}
	var faults []Fault
	for _, f := range files {
		for i, imported := range f.Imports {
			module := moduleOf(imported, modules)
			if module == "" || seen[module] {
				continue
			}
			seen[module] = true
			if !strings.Contains(texts[record], "`"+module+"`") {
				faults = append(faults, f.fault(f.AST.Imports[i].Pos(), "imports module %s, for which %s gives no reason", module, record))
			}
		}
	}
	return faults
}

func requiredModules(gomod string) []string {
	var modules []string
	for line := range strings.Lines(gomod) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") {
			modules = append(modules, fields[0])
		}
	}
	return modules
}

// moduleOf is the module that holds a package: the longest one whose path the import begins with.
func moduleOf(imported string, modules []string) string {
	best := ""
	for _, module := range modules {
		if within(imported, module) && len(module) > len(best) {
			best = module
		}
	}
	return best
}
