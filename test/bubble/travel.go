package bubble

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// API is a kind of call to the broker.
type API string

// The calls of transactions.
const (
	InitProducerID API = "InitProducerId"
	AddPartitions  API = "AddPartitionsToTxn"
	Produce        API = "Produce"
	EndTxn         API = "EndTxn"
)

// ListTopics looks for partitions.
const ListTopics API = "Metadata"

// Call is a request on its way to the broker.
type Call struct {
	API API
	// Host is who calls.
	Host string
	// ID is the transactional id.
	ID string
}

// Fate is what happens to a call. The zero value: it takes CallDelay each way.
type Fate struct {
	// Refused: there is no connection, not a byte is sent.
	Refused bool
	// Lost: the request never arrives; Unanswered: it is carried out, but its answer is lost.
	Lost, Unanswered bool
	// Late is how much longer the request takes; the caller may have given up by then.
	Late time.Duration
	// Code is what the broker answers instead of carrying the call out; 0: nothing special.
	Code int16
}

const (
	// callDelay is how long a call takes each way.
	callDelay = time.Millisecond
	// callTimeout is how long a caller waits for an answer.
	callTimeout = 3 * time.Second
)

// errUnsent is a call of which not a byte was written; errUnanswered one that may be carried out at any time.
var (
	errUnsent     = errors.New("connection refused")
	errUnanswered = errors.New("no answer")
)

// travel is the way to the broker and back.
type travel struct {
	calls sync.WaitGroup

	mu     sync.Mutex
	decide func(Call) Fate
	// frozen are the hosts whose requests are held up, until their channels are closed.
	frozen map[string]chan struct{}
}

func newTravel() *travel { return &travel{frozen: map[string]chan struct{}{}} }

// OnCall decides on the fate of each call from now on; nil: nothing happens to any. It is called from many
// goroutines, one at a time.
func (l *Log) OnCall(decide func(Call) Fate) {
	l.travel.mu.Lock()
	defer l.travel.mu.Unlock()
	l.travel.decide = decide
}

// Freeze holds up what a host sends to the broker, until Thaw: then it arrives, even if nobody waits for it.
func (l *Log) Freeze(host string) {
	l.travel.mu.Lock()
	defer l.travel.mu.Unlock()
	if l.travel.frozen[host] == nil {
		l.travel.frozen[host] = make(chan struct{})
	}
}

// Thaw ends Freeze.
func (l *Log) Thaw(host string) {
	l.travel.mu.Lock()
	defer l.travel.mu.Unlock()
	if ice := l.travel.frozen[host]; ice != nil {
		close(ice)
		delete(l.travel.frozen, host)
	}
}

func (v *travel) close() {
	v.mu.Lock()
	for host, ice := range v.frozen {
		close(ice)
		delete(v.frozen, host)
	}
	v.mu.Unlock()
	v.calls.Wait()
}

func (v *travel) fate(c Call) (f Fate, ice chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.decide != nil {
		f = v.decide(c)
	}
	return f, v.frozen[c.Host]
}

// call carries a request without a result; see ask.
func (l *Log) call(ctx context.Context, c Call, took time.Duration, do func() error) error {
	_, err := ask(ctx, l, c, took, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// ask carries a request to the broker and its answer back. Once it is sent it can be carried out at any
// time, also after the caller has given up: what do finds out reaches the caller only by the answer.
func ask[T any](ctx context.Context, l *Log, c Call, took time.Duration, do func() (T, error)) (none T, err error) {
	fate, ice := l.travel.fate(c)
	if fate.Refused {
		sleep(ctx, callDelay)
		return none, fmt.Errorf("%s: %w", c.API, errUnsent)
	}
	type result struct {
		value T
		err   error
	}
	answer := make(chan result, 1)
	l.travel.calls.Go(func() {
		if ice != nil {
			<-ice
		}
		time.Sleep(took + fate.Late)
		if fate.Lost {
			return
		}
		var r result
		if fate.Code != 0 {
			r.err = brokerError{fate.Code, c.API}
		} else {
			r.value, r.err = do()
		}
		time.Sleep(took)
		if !fate.Unanswered {
			answer <- r
		}
	})
	timer := time.NewTimer(callTimeout)
	defer timer.Stop()
	select {
	case r := <-answer:
		return r.value, r.err
	case <-timer.C:
		return none, fmt.Errorf("%s: %w within %s", c.API, errUnanswered, callTimeout)
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w: %w", c.API, errUnanswered, context.Cause(ctx))
	}
}
