package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/cmd/internal/daemon"
	"github.com/sluice-stream/sluice/cmd/internal/demo"
)

// buffer may be written by several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type outcomeOf struct {
	code           int
	stdout, stderr string
}

// sluice runs a command line as main does.
func sluice(ctx context.Context, env map[string]string, args ...string) outcomeOf {
	var stdout, stderr buffer
	code := run(ctx, daemon.Process{
		Args: args, Stdout: &stdout, Stderr: &stderr,
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	})
	return outcomeOf{code, stdout.String(), stderr.String()}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const goodJob = `name: orders
parallelism: 2
sources:
  in: {kafka: {topics: [a], startup: earliest, properties: {bootstrap.servers: '127.0.0.1:1', group.id: g}}}
sinks:
  out: {from: in, kafka: {topic: b, guarantee: at-least-once, properties: {bootstrap.servers: '127.0.0.1:1'}}}
`

// badJob has five faults, in four lines.
const badJob = `name: orders
paralellism: 2
sources:
  in: {kafka: {topics: [a], startup: sometimes, properties: {bootstrap.servers: '127.0.0.1:1', group.id: g}}}
operators:
  f: {from: in, filter: 'value +'}
sinks:
  out: {from: inn, kafka: {topic: b, guarantee: at-least-once, properties: {bootstrap.servers: '127.0.0.1:1', compresion.type: lz4}}}
`

func TestUsageErrors(t *testing.T) {
	job := writeFile(t, "job.yaml", goodJob)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"frob", exitUsage, `unknown command "frob"`},
		{"jobss", exitUsage, "did you mean job or jobs?"},
		{"jobs --frob", exitUsage, "unknown flag: --frob; see `sluice jobs --help`"},
		{"jobs extra", exitUsage, "jobs takes no arguments"},
		{"job", exitUsage, "job takes NAME|ID; got none"},
		{"lag", exitUsage, "lag takes NAME|ID; got none"},
		{"offsets import --zookeeper zk1 --group g --source orders", exitUsage, `--source "orders": it is a source of FILE, and no FILE is given`},
		{"offsets import --zookeeper zk1 --group a/b", exitUsage, `group.id: the name "a/b" holds '/', which cannot stand in the name of a node`},
		{"offsets import --zookeeper zk1 --group g --topic=", exitUsage, `topic: the name "" is empty`},
		{"explain a b", exitUsage, `got ["a" "b"]`},
		{"lag orders --jobmanager 127.0.0.1:1", exitFailed, "no job manager at 127.0.0.1:1"},
		{"job a b", exitUsage, `got ["a" "b"]`},
		{"jobs -o yaml", exitUsage, `-o "yaml": want table or json`},
		{"jobs --jobmanager foo", exitUsage, "is not HOST:PORT"},
		{"jobs --tls-cert x", exitUsage, "--tls-key and --tls-ca missing"},
		{"help frob", exitUsage, `unknown command "frob"`},
		{"completion frob", exitUsage, `unknown command "frob"`},
		{"validate", exitUsage, "validate takes FILE"},
		{"validate /nonexistent.yaml", exitUsage, "no such file"},
		{"validate JOB --set parallelism", exitUsage, "want path=value"},
		{"validate JOB --set parallelism=0", exitUsage, "0 is out of range"},
		{"submit JOB --wait=maybe", exitUsage, "--wait"},
		{"run JOB --slots -1", exitUsage, "want 1 to 1024"},
		{"run JOB --log-level loud", exitUsage, "want debug, info, warn or error"},
		{"demo --records 7", exitUsage, "want at least 40000"},
		{"demo --kill everything", exitUsage, `--kill "everything": want taskmanager, jobmanager, both, none`},
		{"demo --bootstrap-servers 127.0.0.1:1", exitFailed, "make the topics of the demo at 127.0.0.1:1"},
		{"jobmanager --listen 0.0.0.0:0", exitUsage, "not a loopback address"},
		{"jobs --jobmanager 127.0.0.1:1", exitFailed, "no job manager at 127.0.0.1:1: start one with `jobmanager --listen 127.0.0.1:1`"},
		{"submit JOB --jobmanager 127.0.0.1:1", exitFailed, "no job manager at 127.0.0.1:1"},
		{"stop orders -o json --jobmanager 127.0.0.1:1", exitFailed, "no job manager"},
	} {
		t.Run(c.args, func(t *testing.T) {
			got := sluice(t.Context(), nil, strings.Fields(strings.ReplaceAll(c.args, "JOB", job))...)
			if got.code != c.code || !strings.Contains(got.stderr, c.says) {
				t.Errorf("exit %d, stderr %q; want %d and %q", got.code, got.stderr, c.code, c.says)
			}
			if got.stdout != "" {
				t.Errorf("an error left %q on standard output", got.stdout)
			}
		})
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	for _, name := range []string{"validate", "submit", "jobs", "job", "lag", "explain", "properties", "checkpoints", "cancel", "stop", "taskmanagers", "run", "demo", "version"} {
		got := sluice(t.Context(), nil, name, "--help")
		if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "Examples:\n  sluice "+name) {
			t.Errorf("%s --help: exit %d, stderr %q, or no example", name, got.code, got.stderr)
		}
	}
	if got := sluice(t.Context(), nil, "completion", "bash"); got.code != 0 || !strings.Contains(got.stdout, "__start_sluice") {
		t.Errorf("completion bash: exit %d, %.100q", got.code, got.stdout)
	}
}

func TestValidate(t *testing.T) {
	job := writeFile(t, "job.yaml", goodJob)
	got := sluice(t.Context(), nil, "validate", job)
	if got.code != 0 || got.stdout != job+" is valid: job orders, 1 vertex, needs 2 slots\n" {
		t.Errorf("exit %d, %q", got.code, got.stdout)
	}
	got = sluice(t.Context(), nil, "validate", job, "--set", "parallelism=4", "-o", "json")
	var answer struct {
		Name  string
		Slots int
		Valid bool
	}
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil || answer.Name != "orders" || answer.Slots != 4 || !answer.Valid {
		t.Errorf("%s: %v", got.stdout, err)
	}
}

func TestValidateTellsEveryErrorAtOnce(t *testing.T) {
	job := writeFile(t, "bad.yaml", badJob)
	for _, verb := range []string{"validate", "submit", "run"} {
		got := sluice(t.Context(), nil, verb, job, "-o", "json", "--jobmanager", "127.0.0.1:1")
		if got.code != exitUsage || got.stdout != "" {
			t.Errorf("%s: exit %d, stdout %q; want %d and nothing", verb, got.code, got.stdout, exitUsage)
		}
		for _, want := range []string{"bad.yaml:2:1: ", "did you mean parallelism?", "bad.yaml:4:", "bad.yaml:6:", "bad.yaml:8:", "compression.type"} {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("%s: no %q in\n%s", verb, want, got.stderr)
			}
		}
	}
}

// startJobManager runs a job manager in this process until the test ends.
func startJobManager(t *testing.T) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	var log buffer
	go func() {
		done <- daemon.JobManager(ctx, daemon.Process{
			Args:   []string{"--listen", "127.0.0.1:0", "--http", "", "--data-dir", t.TempDir()},
			Stdout: readyLine(ready, io.Discard), Stderr: &log,
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("job manager: %v\n%s", err, &log)
		}
	})
	startCtx, stop := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("the job manager was not ready"))
	defer stop()
	addr, err := await(startCtx, ready, "grpc")
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	return addr
}

func TestVerbsAtAJobManagerWithoutJobs(t *testing.T) {
	env := map[string]string{"SLUICE_JOBMANAGER": startJobManager(t)}
	job := writeFile(t, "job.yaml", goodJob)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"jobs", 0, "no jobs yet"},
		{"taskmanagers", 0, "no task managers yet"},
		{"job orders", exitNotFound, `job "orders": no such job`},
		{"checkpoints orders", exitNotFound, "no such job"},
		{"lag orders", exitNotFound, `job "orders": no such job`},
		{"explain orders", exitNotFound, `job "orders": no such job`},
		{"cancel orders", exitNotFound, "no such job"},
		{"stop orders", exitNotFound, "no such job"},
		{"submit JOB --from-checkpoint zz/4", exitFailed, "the job cannot run now"}, // its broker is not there
	} {
		for _, output := range []string{"table", "json"} {
			got := sluice(t.Context(), env, append(strings.Fields(strings.ReplaceAll(c.args, "JOB", job)), "-o", output)...)
			if got.code != c.code || output == "table" && !strings.Contains(got.stderr, c.says) {
				t.Errorf("%s: exit %d, stderr %q; want %d and %q", c.args, got.code, got.stderr, c.code, c.says)
			}
			if want := ""; c.code != 0 && got.stdout != want {
				t.Errorf("%s: an error left %q on standard output", c.args, got.stdout)
			}
			if c.code == 0 && output == "json" && strings.TrimSpace(got.stdout) != "[]" {
				t.Errorf("%s -o json: %q, want an empty list", c.args, got.stdout)
			}
		}
	}
}

func TestDemoVerdictDecidesTheExitCode(t *testing.T) {
	for _, c := range []struct {
		result demo.Result
		code   int
	}{
		{demo.Result{OK: true}, 0},
		{demo.Result{OK: true, Killed: demo.KillBoth, NoticedMs: 3, DowntimeMs: 1200}, 0},
		{demo.Result{OK: false, Lost: 1, Problem: "1 records lost"}, exitFailed},
		{demo.Result{OK: false, Duplicates: 2, Problem: "2 duplicates"}, exitFailed},
	} {
		for _, output := range []string{outputTable, outputJSON} {
			var stdout bytes.Buffer
			err := (&cli{output: output, stdout: &stdout}).demoVerdict(&c.result)
			if code := 0; err != nil {
				code = exitCode(err)
				if code != c.code || !strings.Contains(err.Error(), c.result.Problem) {
					t.Errorf("exit %d, %v; want %d", code, err, c.code)
				}
			} else if c.code != 0 {
				t.Errorf("a wrong output exits %d", code)
			}
			if output == outputJSON && !json.Valid(stdout.Bytes()) {
				t.Errorf("not one JSON value: %s", &stdout)
			}
		}
	}
}

// TestFromCheckpointNamesOne: an empty one, as of a variable that is not set, must not begin anew, and none is asked of a
// broker first.
func TestFromCheckpointNamesOne(t *testing.T) {
	job := writeFile(t, "job.yaml", goodJob)
	for _, verb := range []string{"submit", "run"} {
		for _, value := range []string{"", "abc", "abc/", "/4", "abc/x", "abc/-1"} {
			got := sluice(t.Context(), nil, verb, job, "--from-checkpoint", value)
			if got.code != exitUsage || !strings.Contains(got.stderr, "want JOBID/N") {
				t.Errorf("%s --from-checkpoint %q: exit %d, %s", verb, value, got.code, got.stderr)
			}
		}
	}
}
