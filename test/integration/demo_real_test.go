package integration

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/test/integration/cluster"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// What `sluice demo` shows on its embedded broker is the same on a real Kafka.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and brokers")
	}
	t.Run("embedded", func(t *testing.T) { demoEveryKill(t) })
	t.Run(string(kafkaenv.Kafka43), func(t *testing.T) {
		kafka := kafkaenv.Start(t, kafkaenv.Options{Kind: kafkaenv.Kafka43})
		demoEveryKill(t, "--bootstrap-servers", kafka.Addr())
	})
}

func demoEveryKill(t *testing.T, args ...string) {
	for kill, says := range map[string][]string{
		"taskmanager": {"kill -9 of tm-2 after", "WAITING_FOR_SLOTS", "need 4, have 2", "tm-2 lost", "starting tm-3", "restarted from checkpoint", "first new committed output"},
		"jobmanager":  {"kill -9 of the job manager after", "serves again", "restarted from checkpoint", "first new committed output"},
		"both":        {"kill -9 of tm-2 and the job manager after", "serves again", "WAITING_FOR_SLOTS", "need 4, have 2", "first new committed output"},
		"none":        {"FINISHED"},
	} {
		t.Run(kill, func(t *testing.T) {
			result := cluster.New(t, binaries).Sluice(t, append([]string{"demo", "--records", "200000", "--kill", kill, "-o", "json"}, args...)...)
			t.Logf("%s%s", result.Stderr, result.Stdout)
			if result.Code != 0 {
				t.Fatalf("exit code %d", result.Code)
			}
			for _, word := range says {
				if !strings.Contains(result.Stderr, word) {
					t.Errorf("does not say %q", word)
				}
			}
			checkDemo(t, kill, result.Stdout)
		})
	}
}

func checkDemo(t *testing.T, kill, answer string) {
	t.Helper()
	var r struct {
		RecordsIn, RecordsOut, Expected, Lost, Duplicates, OutOfOrder, OpenOffsets int
		Restarts, RestoredCheckpoint                                               int
		DowntimeMs, RecoverMs, NoticedMs, JobManagerMs                             int64
		Guarantee                                                                  string
		OK                                                                         bool
	}
	if err := json.Unmarshal([]byte(answer), &r); err != nil {
		t.Fatal(err)
	}
	if !r.OK || r.RecordsIn != 200_000 || r.RecordsOut != 180_000 || r.Expected != r.RecordsOut || r.Lost+r.Duplicates+r.OutOfOrder+r.OpenOffsets != 0 {
		t.Errorf("the output is not exactly what it must be: %+v", r)
	}
	if r.Guarantee != "exactly-once" {
		t.Errorf("guarantee %q", r.Guarantee)
	}
	restarted, taskManager, jobManager := kill != "none", kill == "taskmanager" || kill == "both", kill == "jobmanager" || kill == "both"
	if restarted != (r.Restarts > 0) || restarted != (r.RestoredCheckpoint > 0) || restarted != (r.DowntimeMs > 0) || restarted != (r.RecoverMs > 0) {
		t.Errorf("%s killed: %+v", kill, r)
	}
	if taskManager != (r.NoticedMs > 0) || jobManager != (r.JobManagerMs > 0) {
		t.Errorf("%s killed: %+v", kill, r)
	}
}
