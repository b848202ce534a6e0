package jobmanager

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-stream/sluice/ident"
)

// sendQueue bounds the messages that wait for a slow task manager. When it is full the stream is ended:
// what was in it is a level, and is repeated when the session is resumed.
const sendQueue = 4096

// maxSuspended bounds the sessions that wait to be watched; the handler of a stream waits while it is full.
const maxSuspended = 1024

const (
	probeTimeout = 500 * time.Millisecond
	probePause   = 20 * time.Millisecond
	// lostShown is how long a lost task manager stands in the list.
	lostShown = time.Hour
)

// session is what the job manager knows of one incarnation of a task manager. All fields below the line
// are guarded by sessions.mu.
type session struct {
	id          string
	worker      ident.WorkerID
	incarnation ident.Incarnation
	slots       int
	dataAddress string
	httpAddress string
	version     string
	connectedAt time.Time
	// ---
	stream        *downstream // nil while suspended
	streams       int         // counts them
	lastHeartbeat time.Time
	lost          bool
	metrics       map[metricKey]subtaskMetrics
}

type metricKey struct {
	job     ident.JobID
	attempt ident.Attempt
	subtask ident.Subtask
}

// subtaskMetrics is what a task manager last told of a running subtask.
type subtaskMetrics struct {
	recordsIn, recordsOut, bytesIn, bytesOut           int64
	recordsSkipped, recordsDeadLettered, recordsFailed int64

	lag []splitLag
	// waiting is why the subtask makes no progress, since when it gave reasons without a break.
	waiting string
	since   time.Time
}

// splitLag is how far a split is behind, in records, and the next offset to read; -1 while unknown.
type splitLag struct {
	topic         string
	partition     int32
	records, next int64
}

// registration is what a task manager says of itself; session is empty unless it wants to resume.
type registration struct {
	worker                                     ident.WorkerID
	incarnation                                ident.Incarnation
	slots                                      int
	dataAddress, httpAddress, version, session string
}

// downstream is the open stream to a task manager.
type downstream struct {
	queue chan message
	end   context.CancelCauseFunc
}

// sessionEvents is told what the job loops must know. Calls come without any lock held.
type sessionEvents interface {
	registered(worker ident.WorkerID, slots int)
	resumed(worker ident.WorkerID)
	lost(workerLost)
}

// sessions is the register of task managers.
type sessions struct {
	cfg    *Config
	epoch  ident.LeaderEpoch
	events sessionEvents
	log    *slog.Logger
	dial   func(ctx context.Context, addr string) (net.Conn, error)

	// suspended takes sessions whose stream has ended, to be watched.
	suspended chan suspension
	over      chan struct{} // closed when run has ended

	// telling is held from a change until events has been told of it, so that a worker's loss is never
	// told after its next registration. It is locked before mu.
	telling sync.Mutex

	mu       sync.Mutex
	byWorker map[ident.WorkerID]*session
}

// suspension is a session without a stream, and why the stream ended.
type suspension struct {
	session *session
	why     error
	streams int // of the session so far
}

func newSessions(cfg *Config, epoch ident.LeaderEpoch, events sessionEvents) *sessions {
	return &sessions{
		cfg: cfg, epoch: epoch, events: events, log: cfg.Logger, dial: cfg.Dial,
		suspended: make(chan suspension, maxSuspended), over: make(chan struct{}), byWorker: map[ident.WorkerID]*session{},
	}
}

var (
	errIDInUse        = errors.New("another live task manager has this id")
	errUnknownSession = errors.New("the session is not known")
	errReplaced       = errors.New("the task manager has opened a newer stream")
	errSilent         = errors.New("no heartbeat for the heartbeat timeout")
	errSlow           = errors.New("the task manager does not read what is sent to it")
)

// open registers a task manager or resumes its session, and attaches the stream.
func (s *sessions) open(reg registration, stream *downstream, now time.Time) (ses *session, resumed bool, err error) {
	worker, inc := reg.worker, reg.incarnation
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	old := s.byWorker[worker]
	switch {
	case reg.session != "":
		if old == nil || old.lost || old.id != reg.session || old.incarnation != inc {
			s.mu.Unlock()
			return nil, false, fmt.Errorf("session %q of task manager %q: %w", reg.session, worker, errUnknownSession)
		}
		s.attach(old, stream, now, true)
		s.mu.Unlock()
		s.events.resumed(worker)
		return old, true, nil
	case old != nil && !old.lost && old.incarnation != inc && !s.replaces(old, reg):
		s.mu.Unlock()
		return nil, false, fmt.Errorf("task manager id %q at %s, registered since %s: %w; choose another --id",
			worker, old.dataAddress, old.connectedAt.Format(time.RFC3339), errIDInUse)
	}
	replaced := old != nil && !old.lost
	var loss workerLost
	if replaced {
		s.drop(old)
		loss = workerLost{worker: worker, reason: s.whyReplaced(old, reg), certain: old.incarnation == inc || ownsPort(reg.dataAddress), lastContact: old.lastHeartbeat}
	}
	s.mu.Unlock()
	if replaced { // before the new session can be sent anything: its slots are not those of the old one
		s.events.lost(loss)
	}
	ses = &session{
		id: newID(), worker: worker, incarnation: inc, slots: reg.slots, dataAddress: reg.dataAddress,
		httpAddress: reg.httpAddress, version: reg.version, connectedAt: now, metrics: map[metricKey]subtaskMetrics{},
	}
	s.mu.Lock()
	s.byWorker[worker] = ses
	s.attach(ses, stream, now, false)
	s.mu.Unlock()
	s.events.registered(worker, ses.slots)
	return ses, false, nil
}

// whyReplaced says why a task manager comes with a new session: the same process gives its own up only when its lease is
// over.
func (s *sessions) whyReplaced(old *session, reg registration) string {
	if old.incarnation == reg.incarnation {
		return fmt.Sprintf("task manager %s gave its session up, as it had no answer for the heartbeat timeout (%s)", reg.worker, s.cfg.HeartbeatTimeout)
	}
	return fmt.Sprintf("task manager %s was started anew", reg.worker)
}

// replaces says that the newcomer takes the place of the old process: it listens at the address that the old one had, whose
// stream has ended. Whether that proves its end says ownsPort.
func (s *sessions) replaces(old *session, reg registration) bool {
	return old.stream == nil && old.dataAddress == reg.dataAddress
}

// ownsPort says that only one process can listen at an address, so that a newcomer there proves the end of the one before.
// A host name may lead to another machine by now.
func ownsPort(dataAddress string) bool {
	_, err := netip.ParseAddrPort(dataAddress)
	return err == nil
}

// attach makes stream the session's; Welcome is its first message.
func (s *sessions) attach(ses *session, stream *downstream, now time.Time, resumed bool) {
	if ses.stream != nil {
		ses.stream.end(errReplaced)
	}
	stream.queue <- welcomeMessage(ses.id, s.epoch, resumed, s.cfg.HeartbeatInterval, s.cfg.HeartbeatTimeout) // has room: it is new
	ses.stream, ses.lastHeartbeat = stream, now
	ses.streams++
}

func (s *sessions) drop(ses *session) {
	ses.lost = true
	if ses.stream != nil {
		ses.stream.end(errReplaced)
		ses.stream = nil
	}
}

// closed is called when a stream has ended. The session is watched until it is resumed
// or lost.
func (s *sessions) closed(ses *session, stream *downstream, why error) {
	s.mu.Lock()
	current, streams := ses.stream == stream && !ses.lost, ses.streams
	if current {
		ses.stream = nil
	}
	s.mu.Unlock()
	if !current {
		return
	}
	select {
	case s.suspended <- suspension{ses, why, streams}:
	case <-s.over: // the job manager is ending
	}
}

// run watches suspended sessions and ends silent streams until ctx ends.
func (s *sessions) run(ctx context.Context) error {
	defer close(s.over)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.sweep(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case x := <-s.suspended:
				g.Go(func() error {
					s.watch(ctx, x)
					return nil
				})
			}
		}
	})
	return g.Wait()
}

// watch finds out whether the process of a suspended session is dead, and otherwise gives it the resume
// window. A session that is resumed and suspended again meanwhile has another window, and another watcher.
func (s *sessions) watch(ctx context.Context, x suspension) {
	ses, why := x.session, x.why
	window := min(s.cfg.ResumeWindow, s.cfg.HeartbeatTimeout)
	if errors.Is(why, errSilent) {
		window = 0 // its time is over
	}
	refused := s.awaitRefusal(ctx, x, window)
	if ctx.Err() != nil {
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	if ses.streams != x.streams || ses.lost {
		s.mu.Unlock()
		return
	}
	ses.lost = true
	lastContact := ses.lastHeartbeat
	s.mu.Unlock()
	reason := fmt.Sprintf("task manager %s lost: %s", ses.worker, causeOfLoss(why, window))
	if refused {
		reason = fmt.Sprintf("task manager %s lost: its process is gone (%s refuses connections)", ses.worker, ses.dataAddress)
	}
	// Not certain even when refused: a process that ends closes its port before its subtasks (DESIGN rule 13).
	s.events.lost(workerLost{worker: ses.worker, reason: reason, lastContact: lastContact})
}

// causeOfLoss is why a stream ended, for people: a reset connection is a cancelled context to gRPC.
func causeOfLoss(why error, window time.Duration) error {
	if errors.Is(why, context.Canceled) || status.Code(why) == codes.Canceled {
		return fmt.Errorf("its connection broke, and it did not come back within %s", window)
	}
	return why
}

// awaitRefusal probes a suspended task manager until its port refuses, its session is resumed, or the
// window is over. It probes again and again because the kernel closes the sockets of a killed process one
// by one: the stream may be gone while the port still accepts.
func (s *sessions) awaitRefusal(ctx context.Context, x suspension, window time.Duration) (refused bool) {
	end := time.Now().Add(window)
	for {
		if s.probe(ctx, x.session.dataAddress) {
			return true
		}
		if s.resumed(x) || !time.Now().Before(end) || pause(ctx, probePause) != nil {
			return false
		}
	}
}

// resumed says that the session has had another stream since.
func (s *sessions) resumed(x suspension) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return x.session.streams != x.streams
}

// probe says whether the data port of a task manager refuses connections, which means that the process is
// gone. A port that accepts, or does not answer, proves nothing.
func (s *sessions) probe(ctx context.Context, addr string) (refused bool) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := s.dial(ctx, addr)
	if err == nil {
		conn.Close()
		return false
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// sweep ends the streams that have been silent for the heartbeat timeout. It runs until the job manager
// ends.
func (s *sessions) sweep(ctx context.Context) error {
	t := time.NewTicker(s.cfg.HeartbeatInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-t.C:
			s.mu.Lock()
			for worker, ses := range s.byWorker {
				switch silent := now.Sub(ses.lastHeartbeat); {
				case ses.stream != nil && silent > s.cfg.HeartbeatTimeout:
					ses.stream.end(errSilent)
				case ses.lost && silent > lostShown: // ids may be made anew with each process
					delete(s.byWorker, worker)
				}
			}
			s.mu.Unlock()
		}
	}
}

// heartbeat notes a sign of life.
func (s *sessions) heartbeat(ses *session, metrics map[metricKey]subtaskMetrics, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, m := range metrics {
		if m.waiting == "" {
			continue
		}
		if m.since = now; ses.metrics[key].waiting != "" {
			m.since = ses.metrics[key].since
		}
		metrics[key] = m
	}
	ses.lastHeartbeat, ses.metrics = now, metrics
}

// send queues a message for a worker; while it is suspended the message is dropped, as resuming repeats
// what counts. It never blocks.
func (s *sessions) send(worker ident.WorkerID, m message) {
	s.sendIn(worker, "", m)
}

// sendIn is send for what must not reach another session of the worker than this one: a deployment, whose
// slots belong to the session. Empty: any.
func (s *sessions) sendIn(worker ident.WorkerID, session string, m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := s.byWorker[worker]
	if ses == nil || ses.stream == nil || session != "" && ses.id != session {
		return
	}
	select {
	case ses.stream.queue <- m:
	default:
		ses.stream.end(errSlow)
	}
}

// target is where a part of an attempt is sent.
type target struct {
	// address is where other task managers reach the worker.
	address string
	session string
}

// targetOf is the session of a worker; false when it has none.
func (s *sessions) targetOf(worker ident.WorkerID) (target, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := s.byWorker[worker]
	if ses == nil || ses.lost {
		return target{}, false
	}
	return target{ses.dataAddress, ses.id}, true
}

// metricsOf is the newest report on a subtask; zero when there is none.
func (s *sessions) metricsOf(worker ident.WorkerID, key metricKey) subtaskMetrics {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses := s.byWorker[worker]; ses != nil {
		return ses.metrics[key]
	}
	return subtaskMetrics{}
}

// workerInfo is one row of the list of task managers.
type workerInfo struct {
	ID                                ident.WorkerID
	State                             string
	Slots                             int
	DataAddress, HTTPAddress, Version string
	ConnectedAt, LastHeartbeat        time.Time
}

// list shows every task manager that is known, lost ones too for an hour or until they come back.
func (s *sessions) list() []workerInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]workerInfo, 0, len(s.byWorker))
	for _, ses := range s.byWorker {
		state := "CONNECTED"
		switch {
		case ses.lost:
			state = "LOST"
		case ses.stream == nil:
			state = "SUSPENDED"
		}
		out = append(out, workerInfo{
			ID: ses.worker, State: state, Slots: ses.slots, DataAddress: ses.dataAddress, HTTPAddress: ses.httpAddress,
			Version: ses.version, ConnectedAt: ses.connectedAt, LastHeartbeat: ses.lastHeartbeat,
		})
	}
	return out
}

func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
