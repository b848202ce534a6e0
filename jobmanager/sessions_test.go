package jobmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/ident"
)

// told notes what the job loops would be told.
type told struct {
	mu   sync.Mutex
	list []string
}

func (e *told) add(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, fmt.Sprintf(format, args...))
}

func (e *told) registered(w ident.WorkerID, slots int) { e.add("registered %s %d", w, slots) }
func (e *told) resumed(w ident.WorkerID)               { e.add("resumed %s", w) }
func (e *told) lost(l workerLost)                      { e.add("lost %s certain=%t", l.worker, l.certain) }

func (e *told) take() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := strings.Join(e.list, "; ")
	e.list = nil
	return text
}

// registerRig is a register whose task manager has one port.
type registerRig struct {
	*sessions
	told   *told
	answer error // of a dial to the task manager; nil: it accepts
}

func newRig(t *testing.T) *registerRig {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Logger = slog.New(slog.DiscardHandler)
	r := &registerRig{told: &told{}}
	r.sessions = newSessions(&cfg, 7, r.told)
	r.dial = func(context.Context, string) (net.Conn, error) {
		if r.answer != nil {
			return nil, r.answer
		}
		near, far := net.Pipe()
		far.Close()
		return near, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// stream is a downstream that remembers why it was ended.
func stream() (*downstream, func() error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &downstream{queue: make(chan message, sendQueue), end: cancel}, func() error { return context.Cause(ctx) }
}

func reg(incarnation, session string) registration {
	return registration{worker: "w", incarnation: ident.Incarnation(incarnation), slots: 2, dataAddress: "10.0.0.1:1", session: session}
}

// TestOpen is the table of who may register: what is known of the id, what the newcomer says, what follows.
func TestOpen(t *testing.T) {
	const none, connected, suspended, gone = "none", "connected", "suspended", "lost"
	tests := []struct {
		old, name string
		reg       func(session string) registration
		err       error
		resumed   bool
		told      string
	}{
		{none, "new", func(string) registration { return reg("a", "") }, nil, false, "registered w 2"},
		{none, "resume of what is not known", func(string) registration { return reg("a", "x") }, errUnknownSession, false, ""},
		{connected, "another process", func(string) registration { return reg("b", "") }, errIDInUse, false, ""},
		{connected, "the same process anew", func(string) registration { return reg("a", "") }, nil, false, "lost w certain=true; registered w 2"},
		{connected, "resume before the end of the stream is seen", func(s string) registration { return reg("a", s) }, nil, true, "resumed w"},
		{connected, "resume by another process", func(s string) registration { return reg("b", s) }, errUnknownSession, false, ""},
		{connected, "resume of another session", func(string) registration { return reg("a", "x") }, errUnknownSession, false, ""},
		{suspended, "resume", func(s string) registration { return reg("a", s) }, nil, true, "resumed w"},
		{suspended, "another process on the same port", func(string) registration { return reg("b", "") }, nil, false, "lost w certain=true; registered w 2"},
		{suspended, "another process elsewhere", func(string) registration {
			r := reg("b", "")
			r.dataAddress = "10.0.0.1:2"
			return r
		}, errIDInUse, false, ""},
		{gone, "resume", func(s string) registration { return reg("a", s) }, errUnknownSession, false, ""},
		{gone, "the same process anew", func(string) registration { return reg("a", "") }, nil, false, "registered w 2"},
		{gone, "another process", func(string) registration { return reg("b", "") }, nil, false, "registered w 2"},
	}
	for _, test := range tests {
		t.Run(test.old+"/"+test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				id := r.prepare(t, test.old)
				r.told.take()
				down, _ := stream()
				ses, resumed, err := r.open(test.reg(id), down, time.Now())
				if !errors.Is(err, test.err) || resumed != test.resumed {
					t.Fatalf("resumed %t, %v, want %t, %v", resumed, err, test.resumed, test.err)
				}
				if got := r.told.take(); got != test.told {
					t.Errorf("told %q, want %q", got, test.told)
				}
				if err != nil {
					if len(down.queue) != 0 {
						t.Error("the refused stream was sent something")
					}
					return
				}
				w := (<-down.queue).GetWelcome()
				if w.GetSession() != ses.id || w.GetResumed() != resumed || w.GetLeaderEpoch() != 7 || resumed != (ses.id == id) {
					t.Errorf("welcome %v for session %s, before %s", w, ses.id, id)
				}
			})
		})
	}
}

// prepare brings worker w with incarnation a into a state and returns its session.
func (r *registerRig) prepare(t *testing.T, state string) string {
	t.Helper()
	if state == "none" {
		return ""
	}
	down, _ := stream()
	ses, _, err := r.open(reg("a", ""), down, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	switch state {
	case "suspended":
		r.closed(ses, down, errors.New("reset"))
	case "lost":
		r.answer = syscall.ECONNREFUSED
		r.closed(ses, down, errors.New("reset"))
		synctest.Wait()
	}
	if got := r.list()[0].State; !strings.EqualFold(got, state) {
		t.Fatalf("it is %s, want %s", got, state)
	}
	return ses.id
}

// TestWhyReplaced: a task manager that starved is not told to have been started anew.
func TestWhyReplaced(t *testing.T) {
	r := newRig(t)
	r.cfg.HeartbeatTimeout = 2 * time.Second
	old := &session{incarnation: "a"}
	for incarnation, want := range map[string]string{
		"a": "task manager w gave its session up, as it had no answer for the heartbeat timeout (2s)",
		"b": "task manager w was started anew",
	} {
		if got := r.whyReplaced(old, reg(incarnation, "")); got != want {
			t.Errorf("incarnation %s: %q, want %q", incarnation, got, want)
		}
	}
}

func TestCauseOfLoss(t *testing.T) {
	const broke = "its connection broke, and it did not come back within 2s"
	for want, why := range map[string][]error{broke: {context.Canceled, status.Error(codes.Canceled, "context canceled")}, errSilent.Error(): {errSilent}} {
		for _, why := range why {
			if got := causeOfLoss(why, 2*time.Second).Error(); got != want {
				t.Errorf("%v: %q, want %q", why, got, want)
			}
		}
	}
}

// TestLoss is when a task manager whose stream ended counts as lost.
func TestLoss(t *testing.T) {
	tests := []struct {
		name   string
		answer error
		why    error
		after  time.Duration
	}{
		{"port refuses", syscall.ECONNREFUSED, errors.New("reset"), 0},
		{"port accepts", nil, errors.New("reset"), 2 * time.Second},
		{"host unreachable", syscall.EHOSTUNREACH, errors.New("reset"), 2 * time.Second},
		{"silent, port accepts", nil, errSilent, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				down, _ := stream()
				ses, _, _ := r.open(reg("a", ""), down, time.Now())
				r.answer = test.answer
				r.told.take()
				began := time.Now()
				r.closed(ses, down, test.why)
				synctest.Wait()
				for r.told.take() == "" {
					if time.Since(began) > time.Minute {
						t.Fatal("it never counts as lost")
					}
					time.Sleep(10 * time.Millisecond)
				}
				if took := time.Since(began); took < test.after || took > test.after+100*time.Millisecond {
					t.Errorf("lost after %s, want %s", took, test.after)
				}
			})
		})
	}
}

// TestOldStreamChangesNothing ends a stream after a newer one has taken its place.
func TestOldStreamChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first, why := stream()
		ses, _, _ := r.open(reg("a", ""), first, time.Now())
		second, _ := stream()
		if _, resumed, err := r.open(reg("a", ses.id), second, time.Now()); !resumed || err != nil {
			t.Fatal(resumed, err)
		}
		if !errors.Is(why(), errReplaced) {
			t.Errorf("the first stream was ended by %v", why())
		}
		r.answer = syscall.ECONNREFUSED
		r.closed(ses, first, errReplaced)
		time.Sleep(time.Second)
		if state := r.list()[0].State; state != "CONNECTED" {
			t.Errorf("it is %s", state)
		}
	})
}

func TestSilenceEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		down, why := stream()
		ses, _, _ := r.open(reg("a", ""), down, time.Now())
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			r.heartbeat(ses, nil, time.Now())
		}
		if why() != nil {
			t.Fatalf("ended in spite of heartbeats: %v", why())
		}
		time.Sleep(4900 * time.Millisecond)
		if why() != nil {
			t.Fatalf("ended before the timeout: %v", why())
		}
		time.Sleep(700 * time.Millisecond)
		if !errors.Is(why(), errSilent) {
			t.Errorf("ended by %v", why())
		}
	})
}

// TestSend drops what is for nobody, ends the stream of who does not read, and keeps a deployment from a session
// that it was not made for.
func TestSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		m := heartbeatAnswer(1)
		r.send("nobody", m)
		down, why := stream()
		ses, _, _ := r.open(reg("a", ""), down, time.Now())
		<-down.queue // Welcome
		r.sendIn("w", ses.id, m)
		r.sendIn("w", "another", m)
		if n := len(down.queue); n != 1 {
			t.Errorf("%d messages were sent, want 1", n)
		}
		for range sendQueue {
			r.send("w", m)
		}
		if !errors.Is(why(), errSlow) {
			t.Errorf("a full queue ended the stream with %v", why())
		}
	})
}

// blockedEvents holds the telling of a loss up, until it is let go.
type blockedEvents struct {
	told
	entered, let chan struct{}
}

func (e *blockedEvents) lost(l workerLost) {
	close(e.entered)
	<-e.let
	e.told.lost(l)
}

// TestLossIsToldBeforeRegistration starts a task manager anew while its loss is still being told: the slot pool
// would otherwise take the new slots away for the old loss.
func TestLossIsToldBeforeRegistration(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Dial = func(context.Context, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	events := &blockedEvents{entered: make(chan struct{}), let: make(chan struct{})}
	s := newSessions(&cfg, 1, events)
	down, _ := stream()
	ses, _, _ := s.open(reg("a", ""), down, time.Now())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.mu.Lock()
		ses.stream = nil
		s.mu.Unlock()
		s.watch(t.Context(), suspension{ses, errors.New("reset"), ses.streams})
	}()
	<-events.entered
	again := make(chan struct{})
	go func() {
		defer close(again)
		down, _ := stream()
		_, _, _ = s.open(reg("b", ""), down, time.Now())
	}()
	select {
	case <-again:
		t.Error("the registration did not wait for the loss to be told")
	case <-time.After(20 * time.Millisecond):
	}
	close(events.let)
	<-ended
	<-again
	if want := []string{"registered w 2", "lost w certain=false", "registered w 2"}; !slices.Equal(events.list, want) {
		t.Errorf("told %q, want %q", events.list, want)
	}
}

// TestEachSuspensionHasItsWindow: who watches a session that was resumed, and is suspended again, has no say any more.
func TestEachSuspensionHasItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		down, _ := stream()
		ses, _, _ := r.open(reg("a", ""), down, time.Now())
		old := suspension{ses, errors.New("reset"), ses.streams}
		again, _ := stream()
		if _, resumed, err := r.open(reg("a", ses.id), again, time.Now()); err != nil || !resumed {
			t.Fatalf("resumed %v, %v", resumed, err)
		}
		r.mu.Lock()
		ses.stream = nil // suspended again
		r.mu.Unlock()
		r.watch(t.Context(), old)
		if ses.lost {
			t.Error("the session is lost by its first suspension, and was resumed since")
		}
		r.watch(t.Context(), suspension{ses, errors.New("reset"), ses.streams})
		if !ses.lost {
			t.Error("the session is not lost by its second suspension")
		}
	})
}

// TestLostOnesAreForgotten keeps the list of task managers bounded, whose ids may be new with each process.
func TestLostOnesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.prepare(t, "lost")
		time.Sleep(59 * time.Minute)
		if len(r.list()) != 1 {
			t.Error("it is forgotten too early")
		}
		time.Sleep(2 * time.Minute)
		if list := r.list(); len(list) != 0 {
			t.Errorf("after an hour there is still %v", list)
		}
		if _, ok := r.targetOf("w"); ok {
			t.Error("it can still be sent to")
		}
	})
}

// TestOwnsPort: a newcomer at the address of a process whose stream broke proves its end, but not under a host name.
func TestOwnsPort(t *testing.T) {
	for address, want := range map[string]bool{"10.0.0.1:6124": true, "[fd00::1]:6124": true, "tm-1:6124": false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			at := func(incarnation string) registration {
				out := reg(incarnation, "")
				out.dataAddress = address
				return out
			}
			down, _ := stream()
			old, _, err := r.open(at("a"), down, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			r.closed(old, down, errors.New("reset"))
			r.told.take()
			again, _ := stream()
			if _, _, err := r.open(at("b"), again, time.Now()); err != nil {
				t.Fatal(err)
			}
			if got, told := r.told.take(), fmt.Sprintf("lost w certain=%t; registered w 2", want); got != told {
				t.Errorf("%s: told %q, want %q", address, got, told)
			}
		})
	}
}
