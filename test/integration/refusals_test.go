package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
	"github.com/sluice-stream/sluice/test/integration/process"
)

// What a submit refuses must be said within this time.
const submitLimit = 10 * time.Second

func TestRefusals(t *testing.T) {
	onEveryKafka(t, []testCase{
		{"missing topics", missingTopics},
		{"record that an expression fails on", failingExpression},
		{"record that an expression skips", skippedRecord},
		{"start offset out of range", outOfRange},
	})
}

// refused submits a job and expects a refusal in time that says all of the words.
func (r *rig) refused(t *testing.T, job string, code int, words ...string) {
	t.Helper()
	began := time.Now()
	result := r.Sluice(t, "submit", r.JobFile(t, r.fill(job)))
	if took := time.Since(began); took > submitLimit+time.Second {
		t.Errorf("the refusal took %s, want at most %s", took, submitLimit)
	}
	if result.Code != code {
		t.Errorf("exit code %d, want %d\n%s%s", result.Code, code, result.Stdout, result.Stderr)
	}
	for _, word := range words {
		if !strings.Contains(result.Stderr, word) {
			t.Errorf("the refusal does not say %q:\n%s", word, result.Stderr)
		}
	}
}

func missingTopics(t *testing.T, r *rig) {
	r.create(t, 1, "in")
	r.start(t, 1)
	r.refused(t, copyJob, 1, r.topic("out"), "does not exist")
	r.refused(t, strings.NewReplacer("['$in']", "['$none']", "$out", "$in").Replace(copyJob), 1, r.topic("none"), "does not exist")
}

// failingJob divides by the value, so "0" fails.
const failingJob = `name: $name
parallelism: 1
checkpoint: {interval: 100ms}
restart: {strategy: none}
sources:
  in: {kafka: {topics: ['$in'], startup: earliest, bounded: latest, format: string, onError: POLICY, properties: {bootstrap.servers: '$brokers'}}}
operators:
  divide: {from: in, map: {value: '100 / int(value)'}}
sinks:
  out: {from: divide, kafka: {topic: '$out', guarantee: at-least-once, properties: {bootstrap.servers: '$brokers'}}}
`

func failingExpression(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	records := r.numbered("in", 1, 1, 0, 3)
	for i, text := range []string{"10", "0", "20"} {
		records[i].Value = []byte(text)
	}
	r.kafka.Produce(t, records)
	r.start(t, 1)
	result := r.Sluice(t, "submit", r.JobFile(t, r.fill(strings.Replace(failingJob, "POLICY", "fail", 1))), "--wait")
	if result.Code != 4 {
		t.Errorf("exit code %d of a job that FAILED, want 4\n%s", result.Code, result.Stderr)
	}
	job := r.Job(t, r.prefix+"job")
	if job.State != "FAILED" || job.Failure == nil || job.Failure.Class != "user" {
		t.Fatalf("the job is %s", job)
	}
	for _, word := range []string{r.topic("in") + "/0", "offset 1", "division by zero", `"0"`} {
		if !strings.Contains(job.Failure.Message, word) {
			t.Errorf("the failure does not say %q: %s", word, job.Failure.Message)
		}
	}
}

func skippedRecord(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	records := r.numbered("in", 1, 1, 0, 4)
	for i, text := range []string{"10", "0", "text", "20"} {
		records[i].Value = []byte(text)
	}
	r.kafka.Produce(t, records)
	r.start(t, 1)
	r.finish(t, strings.Replace(failingJob, "POLICY", "skip", 1))
	out := r.kafka.Read(t, r.topic("out"))
	if len(out) != 2 || string(out[0].Value) != "10" || string(out[1].Value) != "5" {
		t.Errorf("%d records out, want 10 and 5", len(out))
	}
}

// outOfRange: a start offset that the log does not hold is an error that names it, never a silent reset.
func outOfRange(t *testing.T, r *rig) {
	r.create(t, 1, "in", "out")
	r.kafka.Produce(t, r.numbered("in", 1, 1, 0, 10))
	r.start(t, 1)
	job := strings.NewReplacer("startup: earliest, bounded: latest", "startup: {offsets: {'$in': {0: 5000}}}, bounded: none",
		"checkpoint:", "restart: {strategy: none}\ncheckpoint:").Replace(copyJob)
	result := r.Sluice(t, "submit", r.JobFile(t, r.fill(job)), "--wait")
	text := result.Stdout + result.Stderr
	if result.Code == 0 || !strings.Contains(text, "5000") || !strings.Contains(text, r.topic("in")) {
		t.Errorf("exit code %d, want a failure that names the topic and offset 5000:\n%s", result.Code, text)
	}
}

// startedRig is a rig beside a kfake of its own.
func startedRig(t *testing.T, slots ...int) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	r := newRig(t, kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Fake}))
	r.create(t, 1, "in", "out")
	r.start(t, slots...)
	return r
}

// Servers that are not Kafka are told by name, in time, and without harm to the job manager.
func TestSubmitToWhatIsNotKafka(t *testing.T) {
	r := startedRig(t, 1)
	unused, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cases := []struct{ name, addr string }{
		{"nobody listens", fmt.Sprintf("127.0.0.1:%d", unused)},
		{"web server", webServer(t)},
		{"silent server", silent.Addr().String()},
		{"no such host", "no-such-host.invalid:9092"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, field := range []string{"in", "out"} {
				job := copyJob
				if field == "in" {
					job = strings.Replace(job, "$brokers", c.addr, 1)
				} else {
					i := strings.LastIndex(job, "$brokers")
					job = job[:i] + c.addr + job[i+len("$brokers"):]
				}
				r.refused(t, job, 1, c.addr)
			}
		})
	}
	r.finish(t, copyJob)
}

func webServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Shutdown
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // connections of the test are of no interest any more
		<-done
	})
	return listener.Addr().String()
}
