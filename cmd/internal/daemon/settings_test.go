package daemon

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func process(env map[string]string, args ...string) Process {
	return Process{
		Args: args, Stdout: io.Discard, Stderr: io.Discard,
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagWinsOverEnvironmentOverFile(t *testing.T) {
	file := configFile(t, "data-dir: from-file\nheartbeat-timeout: 7s\nlisten: 127.0.0.1:7\nhttp: ''\n")
	env := map[string]string{"SLUICE_DATA_DIR": "from-env", "SLUICE_HEARTBEAT_TIMEOUT": "8s", "SLUICE_CONFIG": file}
	cfg, at, err := jobManagerConfig(process(env, "--data-dir", "from-flag"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.DataDir != "from-flag" || cfg.HeartbeatTimeout != 8*time.Second || at.grpc != "127.0.0.1:7" || at.http != "" {
		t.Errorf("data-dir %q, heartbeat-timeout %s, listen %q, http %q", cfg.DataDir, cfg.HeartbeatTimeout, at.grpc, at.http)
	}
}

func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		name string
		file string
		env  map[string]string
		args string
		says []string
	}{
		{name: "unknown keys, all at once", file: "liten: a\nheartbeattimeout: 1s\n",
			says: []string{`unknown setting "liten"; did you mean listen?`, `unknown setting "heartbeattimeout"; did you mean heartbeat-timeout?`}},
		{name: "unknown key like none", file: "replication: 3\n", says: []string{`unknown setting "replication"; --help lists`}},
		{name: "config in the file", file: "config: x\n", says: []string{`unknown setting "config"`}},
		{name: "a list", file: "listen: [a, b]\n", says: []string{"listen: want a text, one value"}},
		{name: "a map", file: "listen: {a: b}\n", says: []string{"listen: want a text, one value"}},
		{name: "nothing", file: "listen:\n", says: []string{"listen: want a text, one value"}},
		{name: "not YAML", file: "listen: \"\n", says: []string{"read configuration"}},
		{name: "no map", file: "- a\n", says: []string{"read configuration"}},
		{name: "no file", args: "--config /nonexistent", says: []string{"read configuration /nonexistent"}},
		{name: "values of the environment, all at once", env: map[string]string{"SLUICE_HEARTBEAT_TIMEOUT": "soon", "SLUICE_INSECURE": "perhaps"},
			says: []string{`environment SLUICE_HEARTBEAT_TIMEOUT: "soon": want a duration`, `environment SLUICE_INSECURE: "perhaps": want true or false`}},
		{name: "value of a flag", args: "--heartbeat-timeout soon", says: []string{`--heartbeat-timeout "soon": want a duration`}},
		{name: "unknown flag", args: "--datadir x", says: []string{"unknown flag: --datadir; did you mean --data-dir?"}},
		{name: "argument", args: "start", says: []string{`unexpected argument "start"`}},
		{name: "log level", args: "--log-level loud", says: []string{`log-level "loud"`}},
		{name: "no port", args: "--listen localhost", says: []string{`--listen "localhost" is not HOST:PORT`}},
		{name: "port out of range", args: "--listen 127.0.0.1:65536", says: []string{`port "65536" is not in 0..65535`}},
		{name: "open to all", args: "--listen :6123", says: []string{"--tls-cert, --tls-key and --tls-ca, or pass --insecure"}},
		{name: "a public address", args: "--listen 10.0.0.1:6123", says: []string{"not a loopback address"}},
		{name: "HTTP open to all", args: "--http 0.0.0.0:80", says: []string{"HTTP is served without TLS"}},
		{name: "half of TLS", args: "--tls-cert a --tls-ca b", says: []string{"belong together; --tls-key missing"}},
		{name: "no data directory", args: "--data-dir=", says: []string{"data-dir: is empty"}},
		{name: "ended jobs", args: "--keep-ended-jobs -1", says: []string{"keep-ended-jobs: -1 is below 0", "0 for all"}},
		{name: "heartbeats", args: "--heartbeat-timeout 1s --heartbeat-interval 2s", says: []string{"at least three times the interval"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := strings.Fields(c.args)
			if c.file != "" {
				args = append(args, "--config", configFile(t, c.file))
			}
			_, _, err := jobManagerConfig(process(c.env, args...))
			if !errors.Is(err, ErrUsage) {
				t.Fatalf("got %v, want a usage error", err)
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %q", want, err)
				}
			}
		})
	}
}

func TestInsecureAllowsEveryAddress(t *testing.T) {
	if _, _, err := jobManagerConfig(process(nil, "--insecure", "--listen", "0.0.0.0:0", "--http", ":0")); err != nil {
		t.Error(err)
	}
	for _, loopback := range []string{"127.0.0.1:0", "127.8.8.8:1", "[::1]:0", "localhost:0"} {
		if _, _, err := jobManagerConfig(process(nil, "--listen", loopback)); err != nil {
			t.Errorf("%s: %v", loopback, err)
		}
	}
}

func TestDataAddressMustBeOneThatOthersCanDial(t *testing.T) {
	for _, c := range []struct {
		args string
		says string
	}{
		{"--data-listen 127.0.0.1:0", ""},
		{"--data-listen 0.0.0.0:0 --insecure --data-advertise tm-1.example:6124", ""},
		{"--data-listen 0.0.0.0:0 --insecure", "say with --data-advertise"},
		{"--data-listen :0 --insecure", "say with --data-advertise"},
		{"--data-listen [::]:0 --insecure", "say with --data-advertise"},
		{"--data-listen 0.0.0.0:0", "not a loopback address"},
		{"--data-advertise tm-1", "is not HOST:PORT"},
		{"--data-advertise tm-1:0", "cannot be dialled"},
		{"--data-advertise 0.0.0.0:6124", "cannot be dialled"},
		{"--slots 0", "slots: 0 is not in 1..1024"},
		{"--slots many", `--slots "many": want a whole number`},
		{"--jobmanager jm", "is not HOST:PORT"},
	} {
		_, _, err := taskManagerConfig(process(nil, strings.Fields(c.args)...))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", c.args, err, c.says)
		}
	}
}

func TestSecondProcessIsToldWhoHoldsThePort(t *testing.T) {
	l, err := listen("listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = JobManager(t.Context(), process(nil, "--listen", l.Addr().String(), "--http", "", "--data-dir", t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "another process listens there") || errors.Is(err, ErrUsage) {
		t.Errorf("got %v", err)
	}
}

func TestMessageTellsTheMarkOnce(t *testing.T) {
	err := errors.Join(usage(errors.New("a")), usage(errors.New("b")))
	if got, want := Message(err), "bad usage:\n  a\n  b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Message(usage(errors.New("a"))); got != "bad usage: a" {
		t.Errorf("got %q", got)
	}
}

func TestHelpIsAResult(t *testing.T) {
	var stdout, stderr bytes.Buffer
	for _, run := range []func(Process) error{
		func(p Process) error { return JobManager(t.Context(), p) },
		func(p Process) error { return TaskManager(t.Context(), p) },
	} {
		stdout.Reset()
		err := run(Process{Args: []string{"--help"}, Stdout: &stdout, Stderr: &stderr})
		if err != nil || stderr.Len() > 0 || !strings.Contains(stdout.String(), "Examples:") {
			t.Errorf("%v, stderr %q, stdout %q", err, &stderr, &stdout)
		}
	}
}

func TestSampleSettingsAreValid(t *testing.T) {
	if _, _, err := jobManagerConfig(process(nil, "--config", "../../../deploy/jobmanager.yaml")); err != nil {
		t.Error(err)
	}
	if _, _, err := taskManagerConfig(process(nil, "--config", "../../../deploy/taskmanager.yaml")); err != nil {
		t.Error(err)
	}
}
