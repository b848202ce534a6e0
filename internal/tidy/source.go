// Package tidy checks the rules of this code base that no linter knows: which package may import which,
// what a pure package may do, how long a file may be. Its test runs them over the whole repository; the
// rules are tables in this package, so a new rule is a line and an exception is visible.
package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of this repository.
const Module = "github.com/sluice-stream/sluice"

// File is one file of the repository.
type File struct {
	Name string // from the root, with slashes
	Text string
	// Of Go files only.
	AST       *ast.File
	Set       *token.FileSet
	Generated bool
	Imports   []string
}

// Fault is one breach of a rule.
type Fault struct {
	File string
	Line int // 0: the file as a whole
	Text string
}

// String is FILE:LINE: TEXT, as compilers print it.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// Dir is the directory of the file from the root, "." for the root.
func (f *File) Dir() string { return path.Dir(f.Name) }

// Base is the last element of the name.
func (f *File) Base() string { return path.Base(f.Name) }

// IsTest tells whether the file is compiled into tests only.
func (f *File) IsTest() bool {
	return strings.HasSuffix(f.Name, "_test.go") || f.Under("test") || f.Under("bench")
}

// Under tells whether the file is in one of the directories or below.
func (f *File) Under(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(f.Name, dir+"/") })
}

func (f *File) fault(at token.Pos, format string, args ...any) Fault {
	return Fault{File: f.Name, Line: f.Set.Position(at).Line, Text: fmt.Sprintf(format, args...)}
}

// Load reads every text file below root, hidden directories and test data aside.
func Load(root string) ([]*File, error) {
	var files []*File
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			hidden := strings.HasPrefix(entry.Name(), ".") && name != root && entry.Name() != ".ci"
			if hidden || entry.Name() == "testdata" || entry.Name() == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if !isText(entry.Name()) {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file, err := Parse(filepath.ToSlash(relative), string(text))
		files = append(files, file)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the repository: %w", err)
	}
	return files, nil
}

func isText(name string) bool {
	switch filepath.Ext(name) {
	case ".go", ".md", ".proto", ".yaml", ".yml", ".service", ".sh", ".mod":
		return true
	default:
		return name == "Makefile" || name == "run"
	}
}

// Parse makes a File of a name and its text.
func Parse(name, text string) (*File, error) {
	file := &File{Name: name, Text: text}
	if !strings.HasSuffix(name, ".go") {
		return file, nil
	}
	file.Set = token.NewFileSet()
	var err error
	file.AST, err = parser.ParseFile(file.Set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parsing: %w", err)
	}
	file.Generated = ast.IsGenerated(file.AST)
	for _, spec := range file.AST.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		file.Imports = append(file.Imports, imported)
	}
	return file, nil
}
