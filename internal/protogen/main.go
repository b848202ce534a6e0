// Command protogen makes the Go code of the protocol definitions: proto/**/*.proto → *.pb.go and
// *_grpc.pb.go beside them. It needs no protoc: the files are compiled in this process, and the plugins
// are the tools pinned in go.mod, so every checkout generates the same bytes.
//
// With -check nothing is written: the exit code is 1 if a generated file is missing, differs or is left
// over, and each is named.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// plugins are run one after the other on the same request; each is a tool line of go.mod.
var plugins = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

// generatedSuffix ends the name of every file that this program owns below the root.
const generatedSuffix = ".pb.go"

func main() {
	root := flag.String("root", ".", "directory that import paths in .proto files are relative to")
	check := flag.Bool("check", false, "compare with the files on disk, write nothing, exit 1 if they differ")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, *root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string, check bool) error {
	sources, err := filesBelow(root, ".proto")
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return fmt.Errorf("no .proto file below %s: run it by go generate ./proto/... or give -root", root)
	}
	request, err := compile(ctx, root, sources)
	if err != nil {
		return err
	}
	generated := map[string]string{}
	for _, plugin := range plugins {
		if err := runPlugin(ctx, plugin, request, generated); err != nil {
			return err
		}
	}
	if check {
		return compare(root, generated)
	}
	return write(root, generated)
}

// filesBelow lists the files under root whose name ends in suffix, relative to root, with slashes, sorted.
func filesBelow(root, suffix string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		name, err := filepath.Rel(root, path)
		found = append(found, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing %s files below %s: %w", suffix, root, err)
	}
	slices.Sort(found)
	return found, nil
}

// compile parses and links the sources and puts them, after everything that they import, into the
// request that a protoc plugin reads.
func compile(ctx context.Context, root string, sources []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, sources...)
	if err != nil {
		return nil, fmt.Errorf("compiling the protocol files: %w", err)
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources,
		Parameter:      proto.String("paths=source_relative"),
	}
	seen := map[string]bool{}
	for _, file := range files {
		request.ProtoFile = appendFile(request.ProtoFile, file, seen)
	}
	return request, nil
}

// appendFile adds a file after its imports, as plugins expect, each once.
func appendFile(list []*descriptorpb.FileDescriptorProto, file protoreflect.FileDescriptor, seen map[string]bool) []*descriptorpb.FileDescriptorProto {
	if seen[file.Path()] {
		return list
	}
	seen[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		list = appendFile(list, imports.Get(i).FileDescriptor, seen)
	}
	return append(list, protoutil.ProtoFromFileDescriptor(file))
}

// runPlugin feeds the request to one tool and adds what it answers to generated.
func runPlugin(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest, generated map[string]string) error {
	input, err := proto.Marshal(request)
	if err != nil {
		return fmt.Errorf("encoding the request to %s: %w", plugin, err)
	}
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, "go", "tool", plugin)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("running %s: %w: %s", plugin, err, strings.TrimSpace(stderr.String()))
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(stdout.Bytes(), &response); err != nil {
		return fmt.Errorf("decoding the answer of %s: %w", plugin, err)
	}
	if response.Error != nil {
		return fmt.Errorf("%s refuses: %s", plugin, response.GetError())
	}
	for _, file := range response.GetFile() {
		generated[file.GetName()] = file.GetContent()
	}
	return nil
}

// compare names every generated file that is missing, differs, or has no source any more.
func compare(root string, generated map[string]string) error {
	present, err := filesBelow(root, generatedSuffix)
	if err != nil {
		return err
	}
	var faults []string
	for name, content := range generated {
		have, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			faults = append(faults, name+" is missing")
		case err != nil:
			return fmt.Errorf("reading a generated file: %w", err)
		case string(have) != content:
			faults = append(faults, name+" differs from its source")
		}
	}
	for _, name := range present {
		if _, ok := generated[name]; !ok {
			faults = append(faults, name+" has no source any more")
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.Sort(faults)
	return fmt.Errorf("generated code is not up to date: %s; go generate ./proto/... brings it up to date", strings.Join(faults, "; "))
}

// write stores what changed and removes what has no source any more, so that an unchanged file keeps
// its time and the build cache.
func write(root string, generated map[string]string) error {
	present, err := filesBelow(root, generatedSuffix)
	if err != nil {
		return err
	}
	for _, name := range present {
		if _, ok := generated[name]; ok {
			continue
		}
		if err := os.Remove(filepath.Join(root, filepath.FromSlash(name))); err != nil {
			return fmt.Errorf("removing a generated file without a source: %w", err)
		}
	}
	for name, content := range generated {
		path := filepath.Join(root, filepath.FromSlash(name))
		if have, err := os.ReadFile(path); err == nil && string(have) == content {
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing a generated file: %w", err)
		}
	}
	return nil
}
