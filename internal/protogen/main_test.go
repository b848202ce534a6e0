package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const source = `syntax = "proto3";
package example.v1;
option go_package = "example.test/example/v1;examplev1";
import "google/protobuf/duration.proto";
message Wait { google.protobuf.Duration for = 1; }
service Waits { rpc Do(Wait) returns (Wait); }
`

func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	put(t, root, "example/v1/wait.proto", source)
	return root
}

func put(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsGeneratedPassesTheCheck(t *testing.T) {
	root := newRoot(t)
	if err := run(t.Context(), root, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wait.pb.go", "wait_grpc.pb.go"} {
		if _, err := os.Stat(filepath.Join(root, "example/v1", name)); err != nil {
			t.Errorf("%s was not generated: %v", name, err)
		}
	}
	if err := run(t.Context(), root, true); err != nil {
		t.Errorf("check right after generating: %v", err)
	}
}

func TestCheckNamesEveryFault(t *testing.T) {
	root := newRoot(t)
	if err := run(t.Context(), root, false); err != nil {
		t.Fatal(err)
	}
	put(t, root, "example/v1/wait.pb.go", "package examplev1\n")
	put(t, root, "example/v1/old.pb.go", "package examplev1\n")
	if err := os.Remove(filepath.Join(root, "example/v1/wait_grpc.pb.go")); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), root, true)
	if err == nil {
		t.Fatal("check passed")
	}
	for _, want := range []string{
		"example/v1/wait.pb.go differs", "example/v1/wait_grpc.pb.go is missing", "example/v1/old.pb.go has no source",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if err := run(t.Context(), root, false); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), root, true); err != nil {
		t.Errorf("generating did not repair: %v", err)
	}
}

func TestFaultySourceIsNamed(t *testing.T) {
	root := newRoot(t)
	put(t, root, "example/v1/bad.proto", "syntax = \"proto3\";\nmessage {\n")
	err := run(t.Context(), root, false)
	if err == nil || !strings.Contains(err.Error(), "example/v1/bad.proto:2:") {
		t.Errorf("error %v does not name file and line", err)
	}
}

func TestNothingToDoIsAnError(t *testing.T) {
	if err := run(t.Context(), t.TempDir(), true); err == nil {
		t.Error("a root without .proto files passed")
	}
}
