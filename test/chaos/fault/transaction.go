package fault

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-stream/sluice/internal/failpoint"
	"github.com/sluice-stream/sluice/test/chaos/proxy"
	"github.com/sluice-stream/sluice/test/chaos/workload"
)

const (
	// expiry is the transaction timeout of F23; the broker looks for expired transactions every 10 s.
	expiry = time.Minute
	// expiryCheckpoints is the checkpoint timeout beside it: interval and two of them and half a minute fit in.
	expiryCheckpoints = 10 * time.Second
	// tooLong is an outage in which a transaction surely expires, notTooLong one in which it does not.
	tooLong, notTooLong = 90 * time.Second, 20 * time.Second
)

func transactionFaults() []Fault {
	beforeCommit := func(t *Tuning) {
		t.TransactionTimeout = expiry
		t.JobManagerEnv = []string{passage(failpoint.BeforeCommit, crash, passagesOf(failpoint.BeforeCommit))}
	}
	return []Fault{
		{
			ID: "F23", Variant: "expired", What: "everything is down for longer than the transaction timeout, with a completed checkpoint uncommitted",
			Tune: beforeCommit, Inject: func(ctx context.Context, s *Scene) error { return outlast(ctx, s, tooLong) },
			Expect: Expect{MaxAttempts: 2, Final: "FAILED_DATA_LOSS", DataLoss: true, Failure: "transaction"},
		},
		{
			ID: "F23", Variant: "cut-off", What: "the job manager is cut off from Kafka for longer than the transaction timeout: several completed checkpoints stay uncommitted",
			Tune: func(t *Tuning) { t.TransactionTimeout, t.CheckpointTimeout = expiry, expiryCheckpoints }, Inject: cutOff,
			Expect: Expect{MaxAttempts: 20, Final: "FAILED_DATA_LOSS", DataLoss: true, Failure: "transaction"}, Alone: true,
			Kinds: []workload.Kind{workload.A, workload.C}, // counts that follow on what is lost are not those of what is there
		},
		{
			ID: "F23", Variant: "in-time", What: "everything is down for less than the transaction timeout, with a completed checkpoint uncommitted",
			Tune: beforeCommit, Inject: func(ctx context.Context, s *Scene) error { return outlast(ctx, s, notTooLong) },
			Expect: Expect{MinAttempts: 1, MaxAttempts: 3, States: []string{running}},
		},
		{
			ID: "F24", Variant: "once", What: "a foreign producer takes over transactional ids of the job", Inject: hijackOnce,
			Expect: Expect{MinAttempts: 1, MaxAttempts: 2, States: []string{running}, Failure: "fenced by another producer"},
		},
		{
			ID: "F24", Variant: "again", What: "a foreign producer takes over transactional ids of the job, again and again", Inject: hijackAgain,
			Expect: Expect{MinAttempts: 1, MaxAttempts: 4, Final: "FAILED", Failure: "3 attempts in a row were fenced: something else uses the transactional ids of this job"},
		},
	}
}

// outlast waits until the job manager has died before a commit, kills the rest and waits.
func outlast(ctx context.Context, s *Scene, outage time.Duration) error {
	if err := fired(ctx, s.JobManager(), failpoint.BeforeCommit); err != nil {
		return err
	}
	s.Begin()
	<-s.JobManager().Done() // kill -9 by its own hand
	for _, id := range s.TaskManagers() {
		if err := s.KillTaskManager(id); err != nil {
			return err
		}
	}
	if err := pause(ctx, outage); err != nil {
		return err
	}
	if err := s.StartJobManager(); err != nil {
		return err
	}
	return s.startAll()
}

// cutOff silences the line between the job manager and Kafka until transactions have expired.
func cutOff(ctx context.Context, s *Scene) error {
	s.Begin()
	s.silence(managerToKafka(""), proxy.Rule{BlockForward: true, BlockBack: true})
	if err := pause(ctx, tooLong); err != nil {
		return err
	}
	s.Mesh.Heal()
	return nil
}

// hijacker is a foreign producer that takes over the ids of a job.
type hijacker struct {
	client *kgo.Client
	job    string
}

func newHijacker(s *Scene) (*hijacker, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(s.Direct(), ",")...))
	if err != nil {
		return nil, fmt.Errorf("making a foreign producer: %w", err)
	}
	return &hijacker{client, s.Job}, nil
}

// take does InitProducerId on every idle id of an attempt, and says how many there were. Idle ones are those that the sinks
// go on with: taking over one with an open transaction may hit what a completed checkpoint names, which is the loss of data
// that it is. So they are taken all at once: one that waits for its turn may be in use by then.
func (h *hijacker) take(ctx context.Context, attempt int64) (int, error) {
	transactions, err := kadm.NewClient(h.client).ListTransactions(ctx, nil, []string{"Empty"})
	if err != nil {
		return 0, fmt.Errorf("listing transactions: %w", err)
	}
	taken := 0
	var g errgroup.Group
	for _, t := range transactions.Sorted() {
		of := fmt.Sprintf("/%d", attempt) // ids end in job/sink/subtask/attempt/number
		if !strings.Contains(t.TxnID, "/"+h.job+"/") || !strings.HasSuffix(path.Dir(t.TxnID), of) {
			continue
		}
		request := kmsg.NewPtrInitProducerIDRequest()
		id := t.TxnID
		request.TransactionalID, request.TransactionTimeoutMillis = &id, int32(time.Minute/time.Millisecond)
		request.ProducerID, request.ProducerEpoch = -1, -1
		g.Go(func() error {
			if _, err := request.RequestWith(ctx, h.client); err != nil {
				return fmt.Errorf("taking over %s: %w", id, err)
			}
			return nil
		})
		taken++
	}
	return taken, g.Wait()
}

// hijackSome repeats take until there was something to take over.
func hijackSome(ctx context.Context, s *Scene, attempt int64) error {
	h, err := newHijacker(s)
	if err != nil {
		return err
	}
	defer h.client.Close()
	for range 100 {
		taken, err := h.take(ctx, attempt)
		if err != nil || taken > 0 {
			return err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the job has no idle transactional id to take over")
}

func hijackOnce(ctx context.Context, s *Scene) error {
	before, err := s.attempt(ctx)
	if err != nil {
		return err
	}
	s.Begin()
	if err := hijackSome(ctx, s, before); err != nil {
		return err
	}
	return s.again(ctx, before)
}

// hijackAgain takes over the ids of each attempt in its first second, until the job gives up: an attempt that gets on
// counts anew, and before its first checkpoints there is little that the job could lose. One that has survived is met again.
func hijackAgain(ctx context.Context, s *Scene) error {
	h, err := newHijacker(s)
	if err != nil {
		return err
	}
	defer h.client.Close()
	s.Begin()
	var last int64
	var since time.Time
	for range 1000 {
		job, err := s.Rig.Job(ctx, s.Job)
		if err != nil {
			return err
		}
		switch job.State {
		case "FAILED":
			return nil
		case "FAILED_DATA_LOSS":
			return errors.New("an id was taken over whose transaction a completed checkpoint names: that is a loss, not what was to be shown")
		}
		if job.Attempt > last || time.Since(since) > 5*time.Second {
			last, since = job.Attempt, time.Now()
		}
		if time.Since(since) < time.Second {
			if _, err := h.take(ctx, job.Attempt); err != nil {
				return err
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the job goes on though its ids are taken over again and again")
}
