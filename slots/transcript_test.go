package slots

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluice-stream/sluice/ident"
)

// The transcripts in testdata/pool drive a pool. `new [settling]` makes one, `do` runs commands, one a line:
//
//	register WORKER N | lost WORKER | settled
//	request JOB/ATTEMPT N ORDER [restarting]
//	withdraw JOB | vacated JOB/ATTEMPT WORKER | release JOB
//	wait DURATION | explain JOB | totals
type transcript struct {
	p   *Pool
	now time.Time
}

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/pool", func(t *testing.T, path string) {
		tr := &transcript{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				*tr = transcript{p: New(len(d.CmdArgs) > 0), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
				return "ok\n"
			}
			var out strings.Builder
			for line := range strings.Lines(d.Input) {
				fmt.Fprintf(&out, "> %s\n", strings.TrimSpace(line))
				tr.do(t, &out, strings.Fields(line))
				if err := check(tr.p); err != nil {
					t.Fatal(err)
				}
			}
			return out.String()
		})
	})
}

func (tr *transcript) do(t *testing.T, out *strings.Builder, words []string) {
	var grants []Grant
	p := tr.p
	switch arg := words[1:]; words[0] {
	case "register":
		grants = p.Register(ident.WorkerID(arg[0]), number(t, arg[1]))
	case "lost":
		grants = p.Lost(ident.WorkerID(arg[0]))
	case "settled":
		grants = p.Settled()
	case "request":
		job, attempt := attemptOf(t, arg[0])
		grants = p.Request(Request{
			Job: job, Attempt: attempt, Slots: number(t, arg[1]), SubmitOrder: uint64(number(t, arg[2])),
			Restarting: len(arg) > 3, Since: tr.now,
		})
	case "withdraw":
		grants = p.Withdraw(ident.JobID(arg[0]))
	case "vacated":
		job, attempt := attemptOf(t, arg[0])
		grants = p.Vacated(job, attempt, ident.WorkerID(arg[1]))
	case "release":
		grants = p.Release(ident.JobID(arg[0]))
	case "wait":
		d, err := time.ParseDuration(arg[0])
		if err != nil {
			t.Fatal(err)
		}
		tr.now = tr.now.Add(d)
	case "explain":
		e, waits := p.Explain(ident.JobID(arg[0]), tr.now)
		if !waits {
			fmt.Fprintln(out, "does not wait")
			return
		}
		fmt.Fprintln(out, e)
	case "totals":
		n := p.Totals()
		fmt.Fprintf(out, "total=%d free=%d held=%d reserved=%d waiters=%d\n", n.Total, n.Free, n.Held, n.Reserved, n.Waiters)
	default:
		t.Fatalf("unknown command %s", words[0])
	}
	for _, g := range grants {
		fmt.Fprintf(out, "%s/%d gets %v\n", g.Job, g.Attempt, g.Slots)
	}
}

func attemptOf(t *testing.T, text string) (ident.JobID, ident.Attempt) {
	job, attempt, ok := strings.Cut(text, "/")
	if !ok {
		t.Fatalf("%q: want JOB/ATTEMPT", text)
	}
	return ident.JobID(job), ident.Attempt(number(t, attempt))
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
