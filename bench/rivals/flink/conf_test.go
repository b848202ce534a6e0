package flink

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	project "github.com/sluice-stream/sluice/bench/flink"
)

func TestConfiguration(t *testing.T) {
	dir := t.TempDir()
	conf, err := writeConf(dir, settings(dir, ports{rpc: 6123, rest: 8081}, 2, map[string]string{"heartbeat.interval": "1 s", "web.refresh-interval": "it's"}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(conf, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"jobmanager.rpc.port: '6123'", "rest.port: '8081'", "rest.bind-address: '127.0.0.1'", "taskmanager.numberOfTaskSlots: '2'",
		"jobmanager.memory.process.size: '1600m'", "taskmanager.memory.process.size: '1728m'",
		"heartbeat.interval: '1 s'", "web.refresh-interval: 'it''s'", "io.tmp.dirs: '" + filepath.Join(dir, "tmp") + "'",
	} {
		if !slices.Contains(strings.Split(string(text), "\n"), line) {
			t.Errorf("config.yaml has no line %s:\n%s", line, text)
		}
	}
	for _, made := range []string{"tmp", "upload", "checkpoints", "conf/log4j2.properties"} {
		if _, err := os.Stat(filepath.Join(dir, made)); err != nil {
			t.Error(err)
		}
	}
}

func TestLaunch(t *testing.T) {
	const output = `12:00:00 INFO  loading
BASH_JAVA_UTILS_EXEC_RESULT:-Xmx1073741824 -Xms1073741824
INFO  [] - BASH_JAVA_UTILS_EXEC_RESULT:-D jobmanager.memory.heap.size=1073741824b
`
	got, err := launchIn(output, jobManagerParams)
	if err != nil || !slices.Equal(got.jvm, []string{"-Xmx1073741824", "-Xms1073741824"}) ||
		!slices.Equal(got.arguments, []string{"-D", "jobmanager.memory.heap.size=1073741824b"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := launchIn("Exception in thread main", jobManagerParams); err == nil || !strings.Contains(err.Error(), "Exception in thread main") {
		t.Errorf("an answer without the lines: %v", err)
	}
}

func TestVersionIsThatOfTheProject(t *testing.T) {
	text, err := project.Project.ReadFile("pom.xml")
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(text, new(struct{})); err != nil {
		t.Errorf("pom.xml: %v", err)
	}
	version, err := Version()
	if err != nil || !strings.HasPrefix(version, "Flink 2.") || !strings.Contains(version, "flink-connector-kafka ") {
		t.Errorf("%q, %v", version, err)
	}
}

// A program without a JDK and Maven in PATH must say so, and how to get them.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, word := range []string{"java", "javac", "mvn", "install a JDK"} {
		if got := Missing(); !strings.Contains(got, word) {
			t.Errorf("%q does not name %s", got, word)
		}
	}
	if _, err := Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "mvn") {
		t.Errorf("fetching without Maven: %v", err)
	}
}

func TestArguments(t *testing.T) {
	job := Job{
		Kind: Filter, Brokers: "127.0.0.1:9092", Source: "in", Target: "out", Prefix: "a=b", Bounded: true, Parallelism: 4,
		Interval: 100 * time.Millisecond, ExactlyOnce: true, Compression: "lz4", Linger: 10 * time.Millisecond,
	}
	if err := job.check(); err != nil {
		t.Error(err)
	}
	got := job.arguments("/checkpoints")
	for _, want := range []string{
		"kind=filter", "prefix=a=b", "bounded=true", "startup=earliest", "intervalMs=100", "guarantee=exactly-once", "compression=lz4", "lingerMs=10",
		"checkpoints=file:///checkpoints", "parallelism=4",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%q does not hold %s", got, want)
		}
	}
	for argument, change := range map[string]func(*Job){
		"prefix": func(j *Job) { j.Prefix = "" }, "interval": func(j *Job) { j.Interval = 0 },
		"parallelism": func(j *Job) { j.Parallelism = 0 }, "source": func(j *Job) { j.Source = "" },
	} {
		wrong := job
		change(&wrong)
		if err := wrong.check(); err == nil || !strings.Contains(err.Error(), argument) {
			t.Errorf("a job with a wrong %s: %v", argument, err)
		}
	}
}
