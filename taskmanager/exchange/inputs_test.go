package exchange

import (
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/operator"
)

// granted counts what a channel's receiver gave back.
type granted int

func (g *granted) grant(n int) { *g += granted(n) }

func testInputs(n, limit int) (*Inputs, []granted) {
	in := newInputs(make([]Channel, n), limit, &batches{})
	counts := make([]granted, n)
	for i, c := range in.channels {
		c.credits = &counts[i]
	}
	return in, counts
}

func pushBatch(t *testing.T, in *Inputs, input, bytes int, value string) {
	t.Helper()
	b := in.batches.get()
	b.Records = append(b.Records, operator.Record{Value: b.Put([]byte(value))})
	if err := in.channels[input].push(queued{kind: BatchElement, batch: b, bytes: bytes}); err != nil {
		t.Fatal(err)
	}
}

// drain takes everything that can be taken and prints it as input:value.
func drain(t *testing.T, in *Inputs) string {
	t.Helper()
	var out []string
	for {
		e, ok, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return strings.Join(out, " ")
		}
		text := map[ElementKind]string{BarrierElement: "barrier", EndElement: "end"}[e.Kind]
		if e.Kind == BatchElement {
			text = string(e.Batch.Bytes(e.Batch.Records[0].Value))
		}
		out = append(out, string(rune('0'+e.Input))+":"+text)
		in.Release(e)
	}
}

func TestInputsTakeTurns(t *testing.T) {
	in, _ := testInputs(3, 1000)
	for _, v := range []string{"a", "b", "c"} {
		pushBatch(t, in, 0, 1, v)
	}
	pushBatch(t, in, 2, 1, "x")
	if got, want := drain(t, in), "0:a 2:x 0:b 0:c"; got != want {
		t.Fatalf("took %q, want %q", got, want)
	}
}

func TestBlockedInputKeepsItsElementsAndOthersGoOn(t *testing.T) {
	in, counts := testInputs(2, 1000)
	pushBatch(t, in, 0, 10, "a")
	in.Block(0)
	pushBatch(t, in, 0, 10, "b")
	pushBatch(t, in, 1, 7, "x")
	if got, want := drain(t, in), "1:x"; got != want {
		t.Fatalf("took %q, want %q", got, want)
	}
	if counts[0] != 0 || counts[1] != 7 {
		t.Fatalf("granted %v, want none to the blocked input", counts)
	}
	in.UnblockAll()
	if got, want := drain(t, in), "0:a 0:b"; got != want {
		t.Fatalf("took %q, want %q", got, want)
	}
	if counts[0] != 20 {
		t.Fatalf("granted %d, want 20", counts[0])
	}
}

func TestInputsKeepTheOrderOfBarriers(t *testing.T) {
	in, _ := testInputs(1, 1000)
	pushBatch(t, in, 0, 1, "a")
	for _, q := range []queued{{kind: BarrierElement, id: 4}, {kind: EndElement}} {
		if err := in.channels[0].push(q); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := drain(t, in), "0:a 0:barrier 0:end"; got != want {
		t.Fatalf("took %q, want %q", got, want)
	}
}

func TestPushWithoutCreditIsRefused(t *testing.T) {
	in, _ := testInputs(1, 10)
	pushBatch(t, in, 0, 9, "a")
	pushBatch(t, in, 0, 100, "overdraft")
	err := in.channels[0].push(queued{kind: BatchElement, batch: in.batches.get(), bytes: 1})
	if err == nil || !strings.Contains(err.Error(), "without credit") {
		t.Fatalf("a batch beyond the overdraft gave %v", err)
	}
	for range maxControls {
		if err := in.channels[0].push(queued{kind: BarrierElement}); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.channels[0].push(queued{kind: BarrierElement}); err == nil {
		t.Fatal("barriers without bound were taken")
	}
}

// A queue that is never empty must not grow with what passes through it.
func TestQueueReusesItsMemory(t *testing.T) {
	in, _ := testInputs(1, 1000)
	pushBatch(t, in, 0, 1, "first")
	for range 10000 {
		pushBatch(t, in, 0, 1, "v")
		e, ok, err := in.Next()
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		in.Release(e)
	}
	if n := cap(in.channels[0].queue); n > 64 {
		t.Fatalf("the queue of two elements has grown to %d", n)
	}
}
