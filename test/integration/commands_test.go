package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-stream/sluice/test/integration/cluster"
	"github.com/sluice-stream/sluice/test/integration/process"
)

func TestExitCodesAndMessages(t *testing.T) {
	r := startedRig(t, 1)
	id := r.submit(t, endless(copyJob))
	r.WaitState(t, id, "RUNNING", patience)
	good := r.JobFile(t, r.fill(endless(copyJob)))
	wrong := r.JobFile(t, "name: 'a b'\nparallelism: 0\nsources:\n  in: {kafak: {}}\nsinks:\n  out: {from: none, print: {}}\n")
	cel := r.JobFile(t, r.fill(strings.Replace(copyJob, "sinks:", "operators:\n  f: {from: in, filter: 'valu == 1'}\nsinks:", 1)))
	property := r.JobFile(t, r.fill(strings.Replace(copyJob, "max.request.size", "max.request.siz", 1)))
	acks := r.JobFile(t, r.fill(strings.Replace(copyJob, "max.request.size: 4194304", "acks: 1", 1)))
	cases := []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"valid file", []string{"validate", good}, 0, nil},
		{"faulty file", []string{"validate", wrong}, 2, []string{":1:7", ":2:14", ":4:8", ":6:15", "kafak"}},
		{"faulty file submitted", []string{"submit", wrong}, 2, []string{":1:7", ":6:15"}},
		{"faulty expression", []string{"submit", cel}, 2, []string{"valu", ":7:26"}},
		{"unknown property", []string{"submit", property}, 2, []string{"max.request.siz", "max.request.size"}},
		{"property of ours", []string{"submit", acks}, 2, []string{"acks", "Sluice"}},
		{"second job of that name", []string{"submit", good}, 2, []string{r.prefix + "job", id}},
		{"no such file", []string{"submit", "none.yaml"}, 2, []string{"none.yaml"}},
		{"unknown job", []string{"job", "nobody"}, 3, []string{"nobody"}},
		{"unknown job cancelled", []string{"cancel", "nobody"}, 3, []string{"nobody"}},
		{"unknown verb", []string{"sumbit", good}, 2, []string{"sumbit"}},
		{"unknown flag", []string{"jobs", "--nonsense"}, 2, []string{"nonsense"}},
		{"no job manager", []string{"jobs", "--jobmanager", "127.0.0.1:1"}, 1, []string{"no job manager at 127.0.0.1:1", "jobmanager"}},
		{"jobs", []string{"jobs"}, 0, nil},
		{"version", []string{"version"}, 0, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			result := r.Sluice(t, c.args...)
			if result.Code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", result.Code, c.code, result.Stdout, result.Stderr)
			}
			for _, word := range c.says {
				if !strings.Contains(result.Stderr, word) {
					t.Errorf("does not say %q:\n%s", word, result.Stderr)
				}
			}
			if c.code != 0 && result.Stdout != "" {
				t.Errorf("an error writes to stdout: %s", result.Stdout)
			}
		})
	}
	if job := r.Job(t, id); job.State != "RUNNING" || job.Attempt != 1 {
		t.Errorf("the running job was disturbed: %s", job)
	}
}

func TestJSONOfEveryVerb(t *testing.T) {
	r := startedRig(t, 2)
	id := r.submit(t, endless(copyJob))
	r.WaitCheckpoint(t, id, 1, patience)
	for _, args := range [][]string{{"jobs"}, {"job", id}, {"checkpoints", id}, {"taskmanagers"}, {"version"}} {
		out := r.MustSluice(t, append(args, "-o", "json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("sluice %q answers no JSON: %s", args, out)
		}
	}
	for _, path := range []string{"/v1/jobs", "/v1/jobs/" + id, "/v1/jobs/" + r.prefix + "job", "/v1/jobs/" + id + "/checkpoints", "/v1/taskmanagers", "/healthz"} {
		if code, body := get(t, r.Cluster, path); code != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, code, body)
		}
	}
	if code, _ := get(t, r.Cluster, "/v1/jobs/nobody"); code != http.StatusNotFound {
		t.Errorf("GET of an unknown job: %d", code)
	}
	_, metrics := get(t, r.Cluster, "/metrics")
	for _, name := range []string{"sluice_job_state", "sluice_checkpoint", "sluice_slots", "sluice_job_restarts"} {
		if !strings.Contains(metrics, name) {
			t.Errorf("/metrics has no %s", name)
		}
	}
}

func get(t *testing.T, c *cluster.Cluster, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get("http://" + c.HTTPAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// A second job manager on a data directory, and a second task manager of a name, are refused.
func TestSecondDaemons(t *testing.T) {
	r := startedRig(t, 1)
	second := r.StartRefused(t, "jobmanager", "--listen", "127.0.0.1:0", "--http", "", "--data-dir", r.DataDir())
	if pid := fmt.Sprint(r.JobManager().Pid()); second.Code != 1 || !strings.Contains(second.Stderr, pid) {
		t.Errorf("second job manager: code %d, want 1 and the pid %s of the other:\n%s", second.Code, pid, second.Stderr)
	}
	// The second one may go on asking: its namesake may be on its way out. It must not get in.
	twin := r.Start(t, "taskmanager", "twin", "--jobmanager", r.Addr(), "--id", "tm-1", "--slots", "5", "--http", "")
	const reason = "another live task manager has this id"
	for deadline := time.Now().Add(patience); !strings.Contains(twin.Stderr(), reason) || !strings.Contains(r.JobManager().Stderr(), reason); {
		if time.Now().After(deadline) {
			t.Fatalf("the reason of the refusal is not in the logs of both sides:\n%s", twin.Stderr())
		}
		time.Sleep(50 * time.Millisecond)
	}
	if table := r.MustSluice(t, "taskmanagers", "-o", "json"); strings.Count(table, `"tm-1"`) != 1 || strings.Contains(table, `"slots": 5`) {
		t.Errorf("the second tm-1 got in: %s", table)
	}
}

// Outside of loopback without TLS is refused unless --insecure says that it is meant.
func TestPlaintextOutsideOfLoopback(t *testing.T) {
	r := startedRig(t)
	for program, flag := range map[string]string{"jobmanager": "--listen", "taskmanager": "--data-listen"} {
		port, err := process.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		result := r.StartRefused(t, program, flag, fmt.Sprintf("0.0.0.0:%d", port))
		if result.Code != 2 || !strings.Contains(result.Stderr, "--insecure") {
			t.Errorf("%s: code %d, want 2 and a word about --insecure:\n%s", program, result.Code, result.Stderr)
		}
	}
}
