package commit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/ident"
)

// The transcripts in testdata drive a machine. `new [parallel=N] [mark-delay=DURATION]` makes one; each line below it is what the
// store held: `CHECKPOINT KEY…` or `hand-out ATTEMPT/SINK/SUBTASK COUNT`. A KEY is ID@PRODUCER:EPOCH, an ID is
// ATTEMPT/SINK/SUBTASK/N; the cluster of a transaction or hand-out is the sink's name. `do` runs the commands
// below it, one a line:
//
//	completed CHECKPOINT ATTEMPT KEY…
//	ok KEY… | refused KEY… | unknown KEY…      answers to Commit
//	marked | not-marked                        answers to the Mark on its way
//	hand-out ATTEMPT/SINK/SUBTASK COUNT
//	over ATTEMPT | gone ATTEMPT | alive
//	fenced ID… | not-fenced ID…                answers to Fence
//	forgotten | not-forgotten                  answers to the Forget on its way
//	clean-up | tick
//	wait DURATION            the clock goes on, with a tick at each deadline on the way
//	status
type transcript struct {
	m       *Machine
	now     time.Time
	out     strings.Builder
	marks   []manifest.TransactionKey // of the newest Mark
	forgets []HandoutKey
}

var epochStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		tr := &transcript{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			tr.out.Reset()
			switch d.Cmd {
			case "new":
				tr.make(t, d)
				return "ok\n"
			case "do":
				for line := range strings.Lines(d.Input) {
					tr.do(t, strings.TrimSpace(line))
				}
				return tr.out.String()
			default:
				d.Fatalf(t, "unknown command %s", d.Cmd)
				return ""
			}
		})
	})
}

func (tr *transcript) make(t *testing.T, d *datadriven.TestData) {
	cfg, start := Config{}, Start{}
	if d.HasArg("parallel") {
		d.ScanArgs(t, "parallel", &cfg.Parallel)
	}
	if d.HasArg("mark-delay") {
		var text string
		d.ScanArgs(t, "mark-delay", &text)
		var err error
		if cfg.MarkDelay, err = time.ParseDuration(text); err != nil {
			d.Fatalf(t, "%v", err)
		}
	}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		if words[0] == "hand-out" {
			start.Handouts = append(start.Handouts, parseHandout(t, words[1], words[2]))
			continue
		}
		for _, w := range words[1:] {
			start.Unmarked = append(start.Unmarked, Named{ident.CheckpointID(number(t, words[0])), parseTransaction(t, w)})
		}
	}
	*tr = transcript{m: New(cfg, start), now: epochStart}
}

func (tr *transcript) do(t *testing.T, line string) {
	fmt.Fprintf(&tr.out, "> %s\n", line)
	words := strings.Fields(line)
	switch words[0] {
	case "wait":
		tr.wait(t, words[1])
	case "status":
		tr.status()
	case "ok", "refused", "unknown":
		for _, w := range words[1:] {
			key := parseKey(t, w)
			ev := Committed{Key: key, Refused: words[0] == "refused"}
			if words[0] != "ok" {
				ev.Err = errors.New(words[0])
			}
			tr.step(ev)
		}
	case "fenced", "not-fenced":
		for _, w := range words[1:] {
			key, n := parseID(t, w)
			ev := Fenced{Handout: key, N: n}
			if words[0] == "not-fenced" {
				ev.Err = errors.New("no coordinator")
			}
			tr.step(ev)
		}
	default:
		tr.step(tr.event(t, words))
	}
}

func (tr *transcript) event(t *testing.T, words []string) Event {
	switch words[0] {
	case "completed":
		m := &manifest.Manifest{Checkpoint: ident.CheckpointID(number(t, words[1])), Fence: ident.Fence{Epoch: 1, Attempt: ident.Attempt(number(t, words[2]))}}
		for _, w := range words[3:] {
			m.Transactions = append(m.Transactions, parseTransaction(t, w))
		}
		return Completed{m}
	case "marked":
		return Marked{Keys: tr.marks}
	case "not-marked":
		return Marked{Keys: tr.marks, Err: errors.New("disk full")}
	case "forgotten":
		return Forgotten{Handouts: tr.forgets}
	case "not-forgotten":
		return Forgotten{Handouts: tr.forgets, Err: errors.New("disk full")}
	case "hand-out":
		return HandedOut{parseHandout(t, words[1], words[2])}
	case "over":
		return AttemptOver{ident.Attempt(number(t, words[1]))}
	case "gone":
		return AttemptGone{ident.Attempt(number(t, words[1]))}
	case "alive":
		return SignOfLife{}
	case "clean-up":
		return CleanUp{}
	case "tick":
		return Tick{}
	}
	t.Fatalf("unknown command %q", words)
	return nil
}

// step applies an event and prints its effects, with the time since the beginning.
func (tr *transcript) step(ev Event) {
	for _, e := range tr.m.Step(tr.now, ev) {
		fmt.Fprintf(&tr.out, "%s %s\n", tr.now.Sub(epochStart), e)
		switch e := e.(type) {
		case Mark:
			tr.marks = e.Keys
		case Forget:
			tr.forgets = e.Handouts
		}
	}
}

func (tr *transcript) wait(t *testing.T, text string) {
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	for until, n := tr.now.Add(d), 0; ; n++ {
		next := tr.m.Deadline()
		if next.IsZero() || next.After(until) {
			tr.now = until
			return
		}
		if n > 1000 {
			t.Fatalf("the deadline does not move: %s", next)
		}
		if next.After(tr.now) {
			tr.now = next
		}
		tr.step(Tick{})
	}
}

func (tr *transcript) status() {
	s := tr.m.Status()
	since := "never"
	if !s.Since.IsZero() {
		since = s.Since.Sub(epochStart).String()
	}
	fmt.Fprintf(&tr.out, "settled=%t uncommitted=%d since=%s unfenced=%d lost=%d ignored=%d reason=%q\n",
		tr.m.Settled(), s.Uncommitted, since, s.Unfenced, s.Lost, s.Ignored, s.Reason)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func parseHandoutKey(t *testing.T, text string) HandoutKey {
	t.Helper()
	words := strings.Split(text, "/")
	if len(words) != 3 {
		t.Fatalf("%q: want ATTEMPT/SINK/SUBTASK", text)
	}
	return HandoutKey{ident.Attempt(number(t, words[0])), words[1], number(t, words[2])}
}

func parseHandout(t *testing.T, key, count string) Handout {
	t.Helper()
	k := parseHandoutKey(t, key)
	return Handout{HandoutKey: k, Cluster: k.Sink, Prefix: key + "/", Count: number(t, count)}
}

func parseID(t *testing.T, text string) (HandoutKey, int) {
	t.Helper()
	i := strings.LastIndexByte(text, '/')
	return parseHandoutKey(t, text[:i]), number(t, text[i+1:])
}

func parseKey(t *testing.T, text string) manifest.TransactionKey {
	t.Helper()
	id, rest, _ := strings.Cut(text, "@")
	pid, epoch, _ := strings.Cut(rest, ":")
	return manifest.TransactionKey{TransactionalID: id, ProducerID: int64(number(t, pid)), ProducerEpoch: int16(number(t, epoch))}
}

func parseTransaction(t *testing.T, text string) manifest.Transaction {
	t.Helper()
	k := parseKey(t, text)
	h, _ := parseID(t, k.TransactionalID)
	return manifest.Transaction{Sink: h.Sink, Subtask: h.Subtask, Cluster: h.Sink, TransactionalID: k.TransactionalID, ProducerID: k.ProducerID, ProducerEpoch: k.ProducerEpoch}
}
