package oracle

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// good is the log of a job that lost a checkpoint, restarted while two commits were open, and was stopped.
func good(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/good.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// edit changes a log. Lines are found by parts of them, separated by spaces.
type edit func(lines []string) []string

func find(lines []string, parts string) int {
	return slices.IndexFunc(lines, func(l string) bool {
		for _, p := range strings.Fields(parts) {
			if !strings.Contains(l, p) {
				return false
			}
		}
		return true
	})
}

func drop(parts string) edit {
	return func(l []string) []string { i := find(l, parts); return slices.Delete(l, i, i+1) }
}

func move(parts, before string) edit {
	return func(l []string) []string {
		i := find(l, parts)
		line := l[i]
		l = slices.Delete(l, i, i+1)
		return slices.Insert(l, find(l, before), line)
	}
}

func replace(parts, old, new string) edit {
	return func(l []string) []string { i := find(l, parts); l[i] = strings.Replace(l[i], old, new, 1); return l }
}

func insert(line, before string) edit {
	return func(l []string) []string { return slices.Insert(l, find(l, before), line) }
}

func atTheEnd(lines ...string) edit { return func(l []string) []string { return append(l, lines...) } }

func cutAt(parts string, more ...string) edit {
	return func(l []string) []string { return append(l[:find(l, parts)], more...) }
}

const (
	one        = `["c/j/out/0/1/0@7:0"]`
	startAgain = `{"event":"start","epoch":4}`
)

// decisionCases are edits of the good log, and the faults that are found then.
var decisionCases = []struct {
	name string
	edit edit
	want []string
}{
	{"nothing wrong", func(l []string) []string { return l }, nil},
	{"a found partition is added, and told again", func(l []string) []string {
		line := `{"event":"splitAdded","job":"j","epoch":3,"attempt":1,"topic":"t","partition":8,"offset":0,"subtask":"in/0"}`
		return insert(line, `"completed" "checkpoint":1,`)(insert(line, `"completed" "checkpoint":1,`)(l))
	}, nil},
	{"a found partition is added to two subtasks", func(l []string) []string {
		line := `{"event":"splitAdded","job":"j","epoch":3,"attempt":1,"topic":"t","partition":8,"offset":0,"subtask":"in/%d"}`
		return insert(fmt.Sprintf(line, 1), `"completed" "checkpoint":1,`)(insert(fmt.Sprintf(line, 0), `"completed" "checkpoint":1,`)(l))
	}, []string{"t/8 is added to in/1, and was to in/0"}},
	{"a found partition is added to an attempt that is over",
		insert(`{"event":"splitAdded","job":"j","epoch":3,"attempt":0,"topic":"t","partition":8,"offset":0,"subtask":"in/0"}`, `"completed" "checkpoint":1,`),
		[]string{"t/8 is added in attempt 0, deployed is attempt 1"}},
	{"a repeated ack", insert(`{"event":"ack","job":"j","epoch":3,"attempt":1,"checkpoint":1,"subtask":"in[0]","transactions":[]}`, `"completed" "checkpoint":1,`), nil},
	{"ack missing", drop(`"ack" "checkpoint":1, in[0]`), []string{"checkpoint 1 is completed without an ack of in[0]"}},
	{"ack of another attempt counted", replace(`"ack" "checkpoint":4, in[0]`, `"attempt":2`, `"attempt":1`), []string{"checkpoint 4 is completed without an ack of in[0] in attempt 2"}},
	{"two acks that differ", insert(`{"event":"ack","job":"j","epoch":3,"attempt":1,"checkpoint":1,"subtask":"out[0]","transactions":[]}`, `"ack" "checkpoint":1, out[0]`), []string{"out[0] acknowledges checkpoint 1 twice"}},
	{"ids do not rise", replace(`"trigger" "checkpoint":4`, `"checkpoint":4`, `"checkpoint":3`), []string{"trigger of checkpoint 3 after 3", "checkpoint 4 is completed and was not triggered", "committed, and no completed", "checkpoint 4 is announced"}},
	{"restore of the one before", replace(`"deploy" "attempt":2`, `"checkpoint":3`, `"checkpoint":1`), []string{"attempt 2 restores checkpoint 1, the newest completed one is 3"}},
	{"restore of nothing", replace(`"deploy" "attempt":2`, `"checkpoint":3`, `"checkpoint":0`), []string{"attempt 2 restores checkpoint 0"}},
	{"partial deploy", replace(`"deploy" "attempt":2`, `"granted":2`, `"granted":1`), []string{"deploy of attempt 2 with 1 of 2 slots"}},
	{"attempt used again", cutAt(`"deploy" "attempt":2`, `{"event":"deploy","job":"j","epoch":3,"attempt":1,"checkpoint":3,"needed":2,"granted":2}`), []string{"deploy of attempt 1 after attempt 1"}},
	{"trigger in an old attempt", replace(`"trigger" "checkpoint":3`, `"attempt":1`, `"attempt":2`), []string{"trigger of checkpoint 3 in attempt 2, deployed is attempt 1", "completed in attempt 1, triggered in 2", "checkpoint 3 names", "checkpoint 3 is completed without an ack of in[0]", "checkpoint 3 is completed without an ack of out[0]"}},
	{"commit before completed", move(`"committed" /1/0@`, `"completed" "checkpoint":1,`), []string{"c/j/out/0/1/0@7:0 is committed, and no completed checkpoint names it"}},
	{"commits of an id out of order", func(l []string) []string {
		for i := range l {
			l[i] = strings.ReplaceAll(l[i], "/1/1@8:0", "/1/0@7:1")
		}
		return move(`"committed" /1/0@7:0`, `"state" "STOPPED"`)(l)
	}, []string{"7:0 is marked and was not committed", "c/j/out/0/1/0 is fenced, and c/j/out/0/1/0@7:1", "7:0 is committed again after its mark", "7:0 of checkpoint 1 is committed after one of c/j/out/0/1/0 of checkpoint 3"}},
	{"mark before commit", move(`"marked" /1/0@`, `"committed" /1/0@`), []string{"/1/0@7:0 is marked and was not committed", "/1/0@7:0 is committed again after its mark"}},
	{"announce before mark", move(`"announced" "checkpoint":1}`, `"marked" /1/0@`), []string{"checkpoint 1 is announced, and c/j/out/0/1/0@7:0 of checkpoint 1 is not marked"}},
	{"announce before completed", move(`"announced" "checkpoint":1}`, `"trigger" "checkpoint":1`), []string{"checkpoint 1 is announced, the newest completed one is 0"}},
	{"announced backwards", atEndOfRun(`{"event":"announced","job":"j","checkpoint":1}`), []string{"checkpoint 1 is announced after 4"}},
	{"published before completed", move(`"published" "checkpoint":1}`, `"trigger" "checkpoint":1`), []string{"offsets of checkpoint 1 are published"}},
	{"published backwards", func(l []string) []string {
		return append(l, `{"event":"published","job":"j","checkpoint":4}`, `{"event":"published","job":"j","checkpoint":3}`)
	}, []string{"offsets of checkpoint 3 are published after those of 4"}},
	{"published backwards in one place", func(l []string) []string {
		line := `{"event":"published","job":"j","source":"%s","storage":"%s","checkpoint":%d}`
		return append(l, fmt.Sprintf(line, "in", "kafka", 4), fmt.Sprintf(line, "in", "zookeeper", 4), fmt.Sprintf(line, "other", "kafka", 3), fmt.Sprintf(line, "in", "zookeeper", 3))
	}, []string{"offsets of checkpoint 3 are published after those of 4"}},
	{"fence before mark", move(`"fenced" /1/1`, `"committed" /1/1@`), []string{"c/j/out/0/1/1 is fenced, and c/j/out/0/1/1@8:0 of checkpoint 3 is not marked"}},
	{"fence while it runs", move(`"fenced" /1/3`, `"RUNNING" "RESTARTING"`), []string{"/1/3 is fenced while its attempt 1 runs"}},
	{"fence during the write", move(`"fenced" /1/2`, `"completed" "checkpoint":3,`), []string{"/1/2 is fenced while its attempt 1 runs", "checkpoint 3 names c/j/out/0/1/2@9:0, whose id was fenced before"}},
	{"named twice", replace(`"completed" "checkpoint":3,`, `"transactions":[`, `"transactions":["c/j/out/0/1/0@7:0",`), []string{"checkpoint 3 names c/j/out/0/1/0@7:0, which no ack", "/1/0@7:0 stands in the manifests of 1 and 3"}},
	{"a sealed one left out", replace(`"completed" "checkpoint":3,`, `"c/j/out/0/1/1@8:0",`, ``), []string{"checkpoint 3 leaves out c/j/out/0/1/1@8:0", "/1/1@8:0 is committed, and no completed"}},
	{"an id of another attempt", replace(`"ack" "checkpoint":4, out[0]`, `/2/0@`, `/1/0@`), []string{"lists c/j/out/0/1/0@10:0, an id of attempt 1", "checkpoint 4 leaves out", "checkpoint 4 names c/j/out/0/2/0@10:0"}},
	{"an id that was not handed out", replace(`"handedOut" "attempt":2`, `"count":2`, `"count":0`), []string{"out[0] lists c/j/out/0/2/0@10:0, and only 0 ids were handed out"}},
	{"a count that falls", insert(`{"event":"handedOut","job":"j","attempt":1,"sink":"out","subtask":0,"count":3}`, `"trigger" "checkpoint":2`), []string{"the count of ids of out[0] in attempt 1 falls from 4 to 3"}},
	{"completed after aborted", insert(`{"event":"completed","job":"j","epoch":3,"attempt":1,"checkpoint":2,"transactions":["c/j/out/0/1/1@8:0"]}`, `"trigger" "checkpoint":3`), []string{"checkpoint 2 is completed after it was aborted", "stands in the manifests of 2 and 3", "checkpoint 2 is completed without an ack of in[0]"}},
	{"aborted after completed", insert(`{"event":"aborted","job":"j","epoch":3,"attempt":1,"checkpoint":1}`, `"trigger" "checkpoint":2`), []string{"checkpoint 1 is aborted after it was completed"}},
	{"an old leader speaks", replace(`"trigger" "checkpoint":4`, `"epoch":3`, `"epoch":2`), []string{"trigger of epoch 2, the job manager's is 3"}},
	{"the epoch does not rise", insert(`{"event":"start","epoch":3}`, `"trigger" "checkpoint":1`), []string{"starts in epoch 3 after epoch 3"}},
	{"an ended job is dropped", atTheEnd(`{"event":"dropped","job":"j"}`), nil},
	{"a dropped job goes on", atTheEnd(`{"event":"dropped","job":"j"}`, `{"event":"dropped","job":"j"}`), []string{"dropped of job j, which was dropped", "job j is dropped, and is DROPPED"}},
	{"a running job is dropped", atTheEnd(`{"event":"dropped","job":"k"}`), []string{"job k is dropped, and is "}},
	{"the job comes back", atTheEnd(`{"event":"state","job":"j","from":"STOPPED","to":"WAITING_FOR_SLOTS"}`), []string{"state of job j, which is STOPPED"}},
	{"deployed after the final one", func(l []string) []string {
		return append(l[:len(l)-1], `{"event":"deploy","job":"j","epoch":3,"attempt":3,"checkpoint":4,"needed":1,"granted":1}`)
	}, []string{"attempt 3 is deployed after the final checkpoint 4"}},
	{"ended with an open commit", drop(`"marked" /2/0@`), []string{"checkpoint 4 is announced", "fenced, and c/j/out/0/2/0@10:0", "job j is STOPPED, and c/j/out/0/2/0@10:0 of checkpoint 4 is not marked"}},
	{"ended before all is fenced", drop(`"fenced" /1/3`), []string{"of 4 ids of out[0] in attempt 1 only 3 are fenced"}},
	{"restore of something never completed", cutAt(`"completed" "checkpoint":1,`, `{"event":"deploy","job":"j","epoch":3,"attempt":2,"checkpoint":1,"needed":1,"granted":1}`), []string{"attempt 2 restores checkpoint 1, attempt 1 began with 0, and none was completed"}},
	{"an id of another form", replace(`"ack" "checkpoint":1, out[0]`, `c/j/out/0/1/0@7:0`, `mine@7:0`), []string{`transactional id "mine" does not end in`, "leaves out mine@7:0", "checkpoint 1 names"}},
	{"completed twice", insert(`{"event":"completed","job":"j","epoch":3,"attempt":1,"checkpoint":1}`, `"trigger" "checkpoint":2`), []string{"checkpoint 1 is completed twice"}},
	{"an older one completes", func(l []string) []string {
		return insert(`{"event":"completed","job":"j","epoch":3,"attempt":1,"checkpoint":2,"transactions":[]}`, `"marked" /1/1@`)(drop(`"aborted"`)(drop(`"ack" "checkpoint":2`)(l)))
	}, []string{"checkpoint 2 is completed after 3", "checkpoint 2 is completed without an ack of in[0]", "checkpoint 2 is completed without an ack of out[0]"}},
	{"completed when its attempt is over", cutAt(`"completed" "checkpoint":1,`, `{"event":"deploy","job":"j","epoch":3,"attempt":2,"checkpoint":0,"needed":1,"granted":1}`,
		`{"event":"completed","job":"j","epoch":3,"attempt":1,"checkpoint":1,"transactions":`+one+`}`), []string{"checkpoint 1 of attempt 1 is completed in attempt 2"}},
	{"aborted without a trigger", insert(`{"event":"aborted","job":"j","epoch":3,"attempt":1,"checkpoint":9}`, `"trigger" "checkpoint":2`), []string{"checkpoint 9 is aborted and was not triggered"}},
	{"refused and then committed", insert(`{"event":"refused","job":"j","transaction":"c/j/out/0/1/0@7:0"}`, `"committed" /1/0@`), []string{"/1/0@7:0 is committed after it was refused", "is marked and was not committed"}},
	{"refused before completed", insert(`{"event":"refused","job":"j","transaction":"c/j/out/0/1/0@7:0"}`, `"trigger" "checkpoint":1`), []string{"the commit of c/j/out/0/1/0@7:0 is refused, and no completed checkpoint names it", "committed after it was refused", "marked and was not committed"}},
	{"refused after the mark", insert(`{"event":"refused","job":"j","transaction":"c/j/out/0/1/0@7:0"}`, `"published" "checkpoint":1}`), []string{"the commit of c/j/out/0/1/0@7:0 is refused after its mark", "checkpoint 3 is announced", "checkpoint 4 is announced"}},
	{"something unheard of", atEndOfRun(`{"event":"danced","job":"j"}`), []string{`event "danced" is unknown`}},
	{"refused and then fenced", cutAt(`"committed" /2/0@`, `{"event":"refused","job":"j","transaction":"c/j/out/0/2/0@10:0","reason":"[90]"}`,
		`{"event":"fenced","job":"j","attempt":2,"id":"c/j/out/0/2/0"}`, `{"event":"fenced","job":"j","attempt":2,"id":"c/j/out/0/2/1"}`, `{"event":"state","job":"j","to":"FAILED_DATA_LOSS"}`), nil},
	{"killed before the line of what was durable", cutAt(`"completed" "checkpoint":1,`, startAgain, `{"event":"committed","job":"j","transaction":"c/j/out/0/1/0@7:0"}`, `{"event":"marked","job":"j","transactions":`+one+`}`,
		`{"event":"announced","job":"j","checkpoint":1}`, `{"event":"deploy","job":"j","epoch":4,"attempt":2,"checkpoint":1,"needed":1,"granted":1}`), nil},
	{"killed before it was durable", cutAt(`"completed" "checkpoint":1,`, startAgain, `{"event":"fenced","job":"j","attempt":1,"id":"c/j/out/0/1/0"}`, `{"event":"deploy","job":"j","epoch":4,"attempt":2,"checkpoint":0,"needed":1,"granted":1}`), nil},
	{"killed, not durable, committed all the same", cutAt(`"ack" "checkpoint":1, out[0]`, startAgain, `{"event":"committed","job":"j","transaction":"c/j/out/0/1/0@7:0"}`), []string{"is committed, and no completed checkpoint names it"}},
	{"killed between mark and its line", cutAt(`"marked" /1/0@`, startAgain, `{"event":"announced","job":"j","checkpoint":1}`, `{"event":"fenced","job":"j","attempt":1,"id":"c/j/out/0/1/0"}`), nil},
	{"killed before the commit", cutAt(`"committed" /1/0@`, startAgain, `{"event":"announced","job":"j","checkpoint":1}`, `{"event":"fenced","job":"j","attempt":1,"id":"c/j/out/0/1/0"}`), []string{"checkpoint 1 is announced, and c/j/out/0/1/0@7:0", "fenced, and c/j/out/0/1/0@7:0 of checkpoint 1 is not marked"}},
}

func TestDecisions(t *testing.T) {
	for _, c := range decisionCases {
		lines, err := ReadDecisions(strings.NewReader(strings.Join(c.edit(good(t)), "\n") + "\n"))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		checkReasons(t, c.name, CheckDecisions(lines).Faults, c.want)
	}
}

// atEndOfRun inserts a line before the last one, the terminal state.
func atEndOfRun(line string) edit {
	return func(l []string) []string { return slices.Insert(l, len(l)-1, line) }
}

func TestCheckpointsAreCounted(t *testing.T) {
	lines, err := ReadDecisions(strings.NewReader(strings.Join(good(t), "\n") + "\n" + `{"event":"compl`)) // cut by a crash
	if err != nil {
		t.Fatal(err)
	}
	if found := CheckDecisions(lines); found.Completed != 3 || found.Failed != 1 {
		t.Errorf("%d completed, %d failed, want 3 and 1", found.Completed, found.Failed)
	}
	cut := `{"time":"2026-01-01T00:00:00Z","event":"compl{"time":"2026-01-01T00:00:01Z","event":"start","epoch":4}` + "\n"
	if got, err := ReadDecisions(strings.NewReader(cut)); err != nil || len(got) != 1 || got[0].Epoch != 4 {
		t.Errorf("a start behind a line that was cut short reads as %v, %v", got, err)
	}
	if n := len(OfJob(lines, "other")); n != 1 {
		t.Errorf("%d lines of another job, want that of the start alone", n)
	}
	if _, err := ReadDecisions(strings.NewReader("{}\nnonsense\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("nonsense is read: %v", err)
	}
}

func TestMeasure(t *testing.T) {
	at := func(second int) time.Time { return time.Date(2026, 1, 1, 0, 0, second, 0, time.UTC) }
	plain := []Decision{
		{Time: at(1), Event: "deploy"}, {Time: at(12), Event: "state", From: "RUNNING", To: "RESTARTING"}, {Time: at(15), Event: "deploy"},
		{Time: at(16), Event: "completed"}, {Time: at(31), Event: "state", From: "RUNNING", To: "RESTARTING"}, {Time: at(32), Event: "deploy"},
		{Time: at(51), Event: "state", From: "RUNNING", To: "STOPPING"},
	}
	transactional := []Decision{
		{Time: at(12), Event: "state", From: "RUNNING", To: "RESTARTING"}, {Time: at(13), Event: "deploy", Attempt: 4},
		{Time: at(14), Event: "completed", Attempt: 3, Transactions: []string{"old"}}, {Time: at(18), Event: "completed", Attempt: 4, Transactions: []string{"new"}},
	}
	arrivals := []time.Time{at(11), at(13), at(17), at(40)}
	next := func(after time.Time) (time.Time, bool) {
		i := slices.IndexFunc(arrivals, func(a time.Time) bool { return a.After(after) })
		if i < 0 {
			return time.Time{}, false
		}
		return arrivals[i], true
	}
	for _, c := range []struct {
		name                       string
		lines                      []Decision
		notes                      []note
		detect, redeploy, firstOut int64 // −1: null
	}{
		{"no fault", plain, nil, -1, -1, -1},
		{"from the log", plain, []note{{Fault, at(10)}, {Fault, at(20)}, {Detected, at(20)}, {Redeployed, at(20)}, {FirstOutput, at(20)}}, 2000, 5000, 7000},
		{"output of the new attempt only", transactional, []note{{Fault, at(10)}}, 2000, 3000, 30_000},
		{"the longest of two", plain, []note{{Fault, at(10)}, {Fault, at(30)}}, 2000, 5000, 10_000},
		{"noted", plain, []note{{Fault, at(10)}, {Detected, at(11)}, {Redeployed, at(16)}, {FirstOutput, at(18)}}, 1000, 6000, 8000},
		{"nothing happens", plain, []note{{Fault, at(50)}}, -1, -1, -1},
		{"no restart due", plain, []note{{Fault, at(39)}}, -1, -1, 1000},
	} {
		var r Report
		measure(&r, c.notes, c.lines, next)
		for what, pair := range map[string][2]int64{"detect": {value(r.DetectMs), c.detect}, "redeploy": {value(r.RedeployMs), c.redeploy}, "first output": {value(r.FirstOutputMs), c.firstOut}} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %s %d ms, want %d", c.name, what, pair[0], pair[1])
			}
		}
	}
}

func value(ms *int64) int64 {
	if ms == nil {
		return -1
	}
	return *ms
}
