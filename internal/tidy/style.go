package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

// Limits of size. They keep a file readable in one go and a function on one screen.
const (
	maxFileLines     = 500
	maxFunctionLines = 70
	maxParameters    = 6
)

// emptyNames say nothing about what a package holds.
var emptyNames = []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "base", "shared"}

// machinePath finds paths of one machine: a home directory, a checkout.
var machinePath = regexp.MustCompile(`(^|[\s"'(=:])/(root|home|work|Users)/`)

// unfinished finds marks of unfinished work, which belong into an issue.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

// Size checks the length of files and functions and the number of parameters.
func Size(f *File) []Fault {
	if f.Generated {
		return nil
	}
	var faults []Fault
	if lines := strings.Count(f.Text, "\n"); lines > maxFileLines {
		faults = append(faults, Fault{File: f.Name, Text: plural("has", lines, "lines", maxFileLines)})
	}
	ast.Inspect(f.AST, func(node ast.Node) bool {
		var body *ast.BlockStmt
		var signature *ast.FuncType
		name := "a function literal"
		switch node := node.(type) {
		case *ast.FuncDecl:
			body, signature, name = node.Body, node.Type, node.Name.Name
		case *ast.FuncLit:
			body, signature = node.Body, node.Type
		default:
			return true
		}
		if body == nil {
			return true
		}
		if lines := f.Set.Position(body.End()).Line - f.Set.Position(signature.Pos()).Line + 1; lines > maxFunctionLines {
			faults = append(faults, f.fault(node.Pos(), "%s", plural(name+" has", lines, "lines", maxFunctionLines)))
		}
		if count := signature.Params.NumFields(); count > maxParameters {
			faults = append(faults, f.fault(node.Pos(), "%s", plural(name+" has", count, "parameters", maxParameters)))
		}
		return true
	})
	return faults
}

// Documented checks that every exported name has a doc comment. A method needs one when its type is
// exported; String and Error say what they do by their name.
func Documented(f *File) []Fault {
	if f.Generated || f.IsTest() {
		return nil
	}
	var faults []Fault
	for _, declaration := range f.AST.Decls {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) && !selfEvident(d) {
				faults = append(faults, f.fault(d.Pos(), "%s is exported and has no doc comment", d.Name.Name))
			}
		case *ast.GenDecl:
			faults = append(faults, undocumentedSpecs(f, d)...)
		}
	}
	return faults
}

func selfEvident(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"String", "Error", "Unwrap", "Is"}, d.Name.Name)
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	exported := false
	ast.Inspect(d.Recv.List[0].Type, func(node ast.Node) bool {
		if name, ok := node.(*ast.Ident); ok {
			exported = exported || name.IsExported()
		}
		return true
	})
	return exported
}

func undocumentedSpecs(f *File, d *ast.GenDecl) []Fault {
	var faults []Fault
	for _, spec := range d.Specs {
		var doc, comment *ast.CommentGroup
		var names []*ast.Ident
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			doc, comment, names = spec.Doc, spec.Comment, []*ast.Ident{spec.Name}
		case *ast.ValueSpec:
			doc, comment, names = spec.Doc, spec.Comment, spec.Names
		}
		if d.Doc != nil || doc != nil || comment != nil {
			continue
		}
		for _, name := range names {
			if name.IsExported() {
				faults = append(faults, f.fault(name.Pos(), "%s is exported and has no doc comment", name.Name))
			}
		}
	}
	return faults
}

// Habits checks what the code base does not do: package names that say nothing, init functions,
// contexts in structs, comparing errors by ==, sleeping in unit tests.
func Habits(f *File) []Fault {
	if f.Generated {
		return nil
	}
	var faults []Fault
	if slices.Contains(emptyNames, f.AST.Name.Name) {
		faults = append(faults, f.fault(f.AST.Name.Pos(), "package name %s says nothing about what it holds", f.AST.Name.Name))
	}
	ast.Inspect(f.AST, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			if node.Name.Name == "init" && node.Recv == nil {
				faults = append(faults, f.fault(node.Pos(), "an init function runs before anybody can say so"))
			}
		case *ast.StructType:
			for _, field := range node.Fields.List {
				if isSelector(field.Type, "context", "Context") && !f.IsTest() {
					faults = append(faults, f.fault(field.Pos(), "a context in a struct; pass it as the first argument"))
				}
			}
		case *ast.BinaryExpr:
			if comparesErrors(node) {
				faults = append(faults, f.fault(node.Pos(), "errors are compared with errors.Is"))
			}
		case *ast.SelectorExpr:
			if isSelector(node, "time", "Sleep") && strings.HasSuffix(f.Name, "_test.go") && !f.Under("test", "bench") && !f.imports("testing/synctest") {
				faults = append(faults, f.fault(node.Pos(), "a unit test sleeps; use testing/synctest or an event"))
			}
		}
		return true
	})
	return faults
}

func (f *File) imports(path string) bool { return slices.Contains(f.Imports, path) }

func isSelector(node ast.Expr, of, name string) bool {
	selector, ok := node.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	left, ok := selector.X.(*ast.Ident)
	return ok && left.Name == of && selector.Sel.Name == name
}

func comparesErrors(b *ast.BinaryExpr) bool {
	if b.Op != token.EQL && b.Op != token.NEQ {
		return false
	}
	return isErrorName(b.X) && !isNil(b.Y) || isErrorName(b.Y) && !isNil(b.X)
}

func isErrorName(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "err"
	case *ast.SelectorExpr:
		return strings.HasPrefix(e.Sel.Name, "Err") && len(e.Sel.Name) > 3 && ast.IsExported(e.Sel.Name[3:]) || isSelector(e, "io", "EOF")
	default:
		return false
	}
}

func isNil(e ast.Expr) bool {
	name, ok := e.(*ast.Ident)
	return ok && name.Name == "nil"
}

// Text checks every line of any file for paths of one machine and for marks of unfinished work.
func Text(f *File) []Fault {
	if f.Under("internal/tidy") || f.Generated {
		return nil // names what it looks for
	}
	var faults []Fault
	number := 0
	for line := range strings.Lines(f.Text) {
		number++
		if machinePath.MatchString(line) {
			faults = append(faults, Fault{File: f.Name, Line: number, Text: "holds a path of one machine"})
		}
		if unfinished.MatchString(line) {
			faults = append(faults, Fault{File: f.Name, Line: number, Text: "holds a mark of unfinished work; refuse the case at run time, or open an issue"})
		}
	}
	return faults
}

func plural(what string, count int, of string, limit int) string {
	return fmt.Sprintf("%s %d %s, the limit is %d", what, count, of, limit)
}
