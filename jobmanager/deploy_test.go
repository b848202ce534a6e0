package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/checkpoint"
	"github.com/sluice-stream/sluice/checkpoint/boltstore"
	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/jobmanager/job"
	"github.com/sluice-stream/sluice/operator"
	"github.com/sluice-stream/sluice/operator/expression"
	"github.com/sluice-stream/sluice/proto/wire"
	"github.com/sluice-stream/sluice/slots"
)

// fakeConnector deals splits out in turn and finds nothing wrong.
type fakeConnector struct{}

func (fakeConnector) Commit(context.Context, *graph.Job, *manifest.Transaction) (bool, error) {
	return false, nil
}

func (fakeConnector) ReadCommitted(context.Context, *graph.Job, ident.JobID, []manifest.Position) (ident.CheckpointID, bool, error) {
	return 0, false, nil
}

func (fakeConnector) LogEnds(context.Context, *graph.Job, []manifest.Split) []operator.LogEnd {
	return nil
}

func (fakeConnector) SinkPartitions(context.Context, *graph.Job) map[string]int { return nil }

func (fakeConnector) Fence(context.Context, *graph.Job, string, string, string) error { return nil }

func (fakeConnector) CheckProperties(graph.Kind, map[string]string) []error { return nil }
func (fakeConnector) Check(context.Context, *graph.Job) error               { return nil }
func (fakeConnector) StartPositions(_ context.Context, j *graph.Job) ([]manifest.Position, []string, error) {
	var out []manifest.Position
	for p := range int32(3) {
		out = append(out, manifest.Position{Split: manifest.Split{Source: "s", Topic: "t", Partition: p}, Next: int64(p), LeaderEpoch: -1, Stop: -1})
	}
	return out, nil, nil
}

func (fakeConnector) DiscoveryInterval(*graph.KafkaSource) (time.Duration, bool) { return 0, false }

func (fakeConnector) Discover(context.Context, *graph.Source, []manifest.Position) ([]manifest.Position, map[string]manifest.TopicID, error) {
	return nil, nil, nil
}

func (fakeConnector) PublishOffsets(context.Context, *graph.Job, graph.Publication, *manifest.Manifest) error {
	return nil
}

func (fakeConnector) Assign(positions []manifest.Position, parallelism int) [][]manifest.Position {
	out := make([][]manifest.Position, parallelism)
	for i, p := range positions {
		out[i%parallelism] = append(out[i%parallelism], p)
	}
	return out
}

// countJob reads t by s, counts by key in o, and writes to z.
func countJob(parallelism int) *graph.Job {
	j := &graph.Job{
		Name: "job", Parallelism: parallelism,
		Sources:   []graph.Source{{Name: "s", Kafka: &graph.KafkaSource{Topics: []string{"t"}}}},
		Operators: []graph.Operator{{Name: "o", From: []string{"s"}, KeyBy: "key", Count: true}},
		Sinks:     []graph.Sink{{Name: "z", From: []string{"o"}, Kafka: &graph.KafkaSink{Topic: "t"}}},
	}
	j.SetDefaults()
	return j
}

func open(t *testing.T) *Manager {
	t.Helper()
	return openHooked(t, nil)
}

// openHooked opens a job manager whose writes go through a hook.
func openHooked(t *testing.T, hook func(boltstore.Step) error) *Manager {
	t.Helper()
	cfg := DefaultConfig()
	cfg.StoreHook = hook
	cfg.DataDir, cfg.Logger = t.TempDir(), slog.New(slog.DiscardHandler)
	m, err := Open(cfg, fakeConnector{}, expression.Checker{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// submitted makes the runner of a job, which does not run.
func submitted(t *testing.T, m *Manager, j *graph.Job) *runner {
	t.Helper()
	id, _, err := m.submit(t.Context(), submission{job: j})
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.find(string(id))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// grantedTo has worker w register and gives its slots to the job.
func grantedTo(t *testing.T, m *Manager, r *runner) (*downstream, slots.Grant) {
	t.Helper()
	down, _ := stream()
	if _, _, err := m.sessions.open(reg("a", ""), down, time.Now()); err != nil {
		t.Fatal(err)
	}
	<-down.queue // Welcome
	m.scheduler.request(slots.Request{Job: r.id, Attempt: 1, Slots: r.plan.Slots, SubmitOrder: 1, Since: time.Now()})
	return down, <-r.grants
}

// TestDeployNeedsTheSessionOfItsSlots has a task manager come back between the grant of its slots and the
// deployment: it is not sent subtasks in slots that the job no longer holds.
func TestDeployNeedsTheSessionOfItsSlots(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(2))
	down, g := grantedTo(t, m, r)
	e := job.Deploy{Fence: ident.Fence{Epoch: m.epoch, Attempt: 1}, Slots: g.Slots}
	zero := r.coord.Status().Latest
	dep, gone := r.newDeployment(e, zero)
	if len(gone) != 0 || dep.targets["w"].address != "10.0.0.1:1" {
		t.Fatalf("gone %v, targets %v", gone, dep.targets)
	}
	again, _ := stream()
	if _, _, err := m.sessions.open(reg("a", ""), again, time.Now()); err != nil {
		t.Fatal(err)
	}
	<-again.queue
	m.sessions.sendIn("w", dep.targets["w"].session, heartbeatAnswer(1)) // prepared before, sent after
	if len(again.queue) != 0 || len(down.queue) != 0 {
		t.Error("the deployment reached another session")
	}
	if _, gone := r.newDeployment(e, zero); !slices.Equal(gone, []ident.WorkerID{"w"}) {
		t.Errorf("gone %v, want w: its slots are those of an older session", gone)
	}
}

// TestRepeatTellsOfAFailedCheckpoint: a task manager that resumes may have missed that a checkpoint failed. Without that
// it would hold back an input, also while the next one is drawn.
func TestRepeatTellsOfAFailedCheckpoint(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(2))
	down, g := grantedTo(t, m, r)
	fence := ident.Fence{Epoch: m.epoch, Attempt: 1}
	r.deployed, _ = r.newDeployment(job.Deploy{Fence: fence, Slots: g.Slots}, r.coord.Status().Latest)
	sent := func() (texts []string) {
		for range len(down.queue) {
			texts = append(texts, fmt.Sprintf("%T", (<-down.queue).GetMessage()))
		}
		return texts
	}
	trigger, abort := "*sluicev1.FromJobManager_Trigger", "*sluicev1.FromJobManager_Aborted"
	for _, step := range []struct {
		effect checkpoint.Effect
		want   []string // sent at once, and again
	}{
		{checkpoint.Trigger{Checkpoint: 1, Fence: fence, Sources: r.sources()}, []string{trigger, trigger}},
		{checkpoint.Abort{Checkpoint: 1, Fence: fence, Why: "expired"}, []string{abort, abort}},
		{checkpoint.Trigger{Checkpoint: 2, Fence: fence, Sources: r.sources()}, []string{trigger, abort, trigger}},
	} {
		if err := r.performCheckpoint(t.Context(), step.effect); err != nil {
			t.Fatal(err)
		}
		r.repeat(job.RepeatDeploy{Fence: fence, Worker: "w"})
		if got := sent(); !slices.Equal(got, step.want) {
			t.Errorf("%T: sent %q, want %q", step.effect, got, step.want)
		}
	}
}

// TestDoubtEndsTheJobManager: a write of unknown outcome ends the job manager, whatever was to be written.
func TestDoubtEndsTheJobManager(t *testing.T) {
	for name, write := range map[string]func(*testing.T, *Manager, *runner){ // in the job's loop
		"ids of checkpoints": func(t *testing.T, _ *Manager, r *runner) {
			if err := r.performCheckpoint(t.Context(), checkpoint.ReserveIDs{Through: 10}); err != nil {
				t.Error(err)
			}
		},
		"what else would cost only space": func(t *testing.T, m *Manager, r *runner) {
			r.beside(t.Context(), func(ctx context.Context) error {
				return m.store.Update(ctx, func(tx *boltstore.Tx) error { return tx.Reserve(r.id, 20) })
			}, r.logged("retention"))
		},
		"a new job": func(t *testing.T, m *Manager, _ *runner) {
			j := countJob(1)
			j.Name = "another"
			if _, _, err := m.submit(t.Context(), submission{job: j}); err == nil {
				t.Error("the job was accepted")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			m := openHooked(t, func(boltstore.Step) error {
				if broken.Load() {
					return syscall.EIO
				}
				return nil
			})
			r := submitted(t, m, countJob(1))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- m.Run(t.Context(), l) }()
			r.deliver(done{func(time.Time) {
				broken.Store(true)
				write(t, m, r)
			}})
			if err := <-ended; !errors.Is(err, boltstore.ErrUnknownOutcome) {
				t.Errorf("the job manager ended with %v", err)
			}
		})
	}
}

// TestGrantComesAfterOlderLosses has a loss and a grant wait for the loop at the same time: the loss was posted
// before the task manager registered again and got its slots granted.
func TestGrantComesAfterOlderLosses(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(2))
	for range 20 { // select would choose at random
		r.queue = nil
		r.deliver(workerLost{worker: "w", reason: "restarted"})
		r.onGrant(slots.Grant{Job: r.id, Attempt: 1})
		var got []string
		for _, ev := range r.queue {
			got = append(got, fmt.Sprintf("%T", ev))
		}
		if want := []string{"job.WorkerLost", "job.SlotsGranted"}; !slices.Equal(got, want) {
			t.Fatalf("events %v, want %v", got, want)
		}
	}
}

// TestDeployMessages is what each task manager is sent: its subtasks, splits and pieces of state, and where all
// others run.
func TestDeployMessages(t *testing.T) {
	j := countJob(3)
	plan, err := graph.Plan(j, expression.Checker{})
	if err != nil {
		t.Fatal(err)
	}
	positions, _, _ := fakeConnector{}.StartPositions(t.Context(), j)
	restored := checkpoint.Zero("id", plan.Identity, positions, time.Now())
	restored.Checkpoint = 7
	first, last := graph.KeyGroupsOf(1, 2, plan.MaxParallelism) // as written at parallelism 2
	restored.State = []manifest.State{{Operator: "o", Subtask: ident.Subtask{Vertex: "o", Index: 1}, FirstKeyGroup: first, LastKeyGroup: last, SizeBytes: 10, Inline: []byte("0123456789")}}
	d := &deployment{
		job: "id", fence: ident.Fence{Epoch: 3, Attempt: 4}, graph: j, plan: plan, restored: restored, placement: map[ident.Subtask]ident.WorkerID{},
		targets: map[ident.WorkerID]target{"a": {"a:1", "sa"}, "b": {"b:1", "sb"}}, splits: assignSplits(fakeConnector{}, plan, restored.Positions),
	}
	for _, s := range plan.Subtasks() {
		d.placement[s] = "b"
		if s.Index == 0 {
			d.placement[s] = "a"
		}
	}
	messages, err := d.messages()
	if err != nil {
		t.Fatal(err)
	}
	for worker, want := range map[ident.WorkerID]string{
		// Subtask 0 owns the key groups 0 to 42 and needs nothing of the piece, which begins at 64.
		"a": "subtasks o/0 s/0; splits s/0:t-0@0; state; placements a@a:1=2 b@b:1=4",
		"b": "subtasks o/1 o/2 s/1 s/2; splits s/1:t-1@1 s/2:t-2@2; state o/1; placements a@a:1=2 b@b:1=4",
	} {
		m := messages[worker].GetDeploy()
		var text strings.Builder
		text.WriteString("subtasks")
		for _, s := range m.GetSubtasks() {
			fmt.Fprintf(&text, " %s", wire.SubtaskFromProto(s))
		}
		text.WriteString("; splits")
		for _, s := range m.GetSplits() {
			p := wire.PositionFromProto(s.GetPosition())
			fmt.Fprintf(&text, " %s:%s-%d@%d", wire.SubtaskFromProto(s.GetSubtask()), p.Topic, p.Partition, p.Next)
		}
		text.WriteString("; state")
		for _, s := range m.GetState() {
			fmt.Fprintf(&text, " %s", wire.SubtaskFromProto(s.GetWriter()))
		}
		text.WriteString("; placements")
		for _, p := range m.GetPlacements() {
			fmt.Fprintf(&text, " %s@%s=%d", p.GetWorker(), p.GetDataAddress(), len(p.GetSubtasks()))
		}
		id, fence := wire.AttemptFromProto(m.GetAttempt())
		if text.String() != want || id != "id" || fence != d.fence || m.GetRestoredCheckpoint() != 7 {
			t.Errorf("%s of %s: %s\nwant %s", id, fence, &text, want)
		}
	}
}

// TestJobTooLargeToDeploy is refused when it is submitted: no task manager could ever take it.
func TestJobTooLargeToDeploy(t *testing.T) {
	m := open(t)
	j := countJob(2)
	j.Sinks[0].Kafka.Properties = map[string]string{"large": strings.Repeat("x", controlMessageBytes)}
	_, _, err := m.submit(t.Context(), submission{job: j})
	if err == nil || !strings.Contains(fmt.Sprint(err.(*invalidJobError).faults), "at most 1047552 can be sent") {
		t.Errorf("submit: %v", err)
	}
	if len(m.jobs()) != 0 {
		t.Error("the refused job is listed")
	}
}

// TestABrokenLoopIsContained: a bug that one job meets ends neither the job manager nor another job, and is told.
func TestABrokenLoopIsContained(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	go func() { r.inbox <- done{func(time.Time) { panic("seeded") }} }()
	if err := r.run(t.Context()); err != nil {
		t.Fatalf("the job manager would end: %v", err)
	}
	if w := r.view().waiting; len(w) != 1 || !strings.Contains(w[0], "seeded") || !strings.Contains(w[0], "restart the job manager") {
		t.Errorf("waiting %q", w)
	}
	if r.ended() {
		t.Error("the job counts as ended")
	}
	select {
	case <-r.over:
	default:
		t.Error("who waits for the loop is not told")
	}
}

// TestDeploymentHasTimeForItsState: what is sent out has the time that its state takes, each piece at 1 MiB/s, all together at 16.
func TestDeploymentHasTimeForItsState(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(2))
	_, g := grantedTo(t, m, r)
	e := job.Deploy{Fence: ident.Fence{Epoch: m.epoch, Attempt: 1}, Slots: g.Slots}
	from := *r.coord.Status().Latest
	from.State = []manifest.State{{Operator: "o", SizeBytes: 96 << 20}, {Operator: "o", Subtask: ident.Subtask{Index: 1}, SizeBytes: 64 << 20}}
	dep, _ := r.newDeployment(e, &from)
	if err := r.sendOut(t.Context(), e, dep); err != nil {
		t.Fatal(err)
	}
	want := job.DeploySent{Fence: e.Fence, Restore: (2*96 + 10) * time.Second}
	if !slices.Contains(r.queue, any(want)) {
		t.Errorf("queue %v, want %v in it", r.queue, want)
	}
}

// TestRefusedRequest: who asks for what cannot come any more is told so, who asks twice is not.
func TestRefusedRequest(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	r.queue = nil
	for _, ev := range []job.Event{job.Submitted{}, job.DataLost{Failure: job.Failure{Class: job.External, Message: "lost"}}} {
		r.machine.Step(time.Now(), ev) // its clean-up is not begun
	}
	ask := func(ev job.Event) error {
		answer := make(chan error, 1)
		r.receive(time.Now(), asked{ev, answer})
		if err := r.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		return <-answer
	}
	if err := ask(job.Cancel{}); r.machine.State() != job.Failing || status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "cancel of job job ("+string(r.id)+") is refused: the job is FAILING") {
		t.Errorf("the job is %s: %v", r.machine.State(), err)
	}
}

// TestManifestBringsItsCounts: they are durable with it.
func TestManifestBringsItsCounts(t *testing.T) {
	m := open(t)
	r := submitted(t, m, countJob(1))
	r.children = &errgroup.Group{}
	r.persistManifest(t.Context(), checkpoint.Persist{Manifest: &manifest.Manifest{Job: r.id, Checkpoint: 1}})
	if err := r.children.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := m.store.View(func(tx *boltstore.Tx) error {
		got, err := countsOf(tx, r.id, storedCounts{})
		if want := (storedCounts{Completed: 1}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
