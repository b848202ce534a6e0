package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/test/chaos/rig"
)

// watchEvery is how often the status of a job is looked at. The decision log knows what is shorter.
const watchEvery = 25 * time.Millisecond

// seen is a state that a job was in, and since when.
type seen struct {
	at      time.Time
	state   string
	attempt int64
}

// timeline is the states of a job as they were seen from outside.
type timeline struct {
	log    string
	job    string
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	polled []seen
}

// watch follows a job until stop.
func watch(r *rig.Rig, job string) *timeline {
	ctx, cancel := context.WithCancel(context.Background())
	t := &timeline{log: r.DecisionLog(), job: job, cancel: cancel}
	t.done.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			if status, err := r.Job(ctx, job); err == nil {
				t.add(seen{time.Now(), status.State, status.Attempt})
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return t
}

func (t *timeline) add(s seen) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.polled); n == 0 || t.polled[n-1].state != s.state || t.polled[n-1].attempt != s.attempt {
		t.polled = append(t.polled, s)
	}
}

func (t *timeline) stop() {
	t.cancel()
	t.done.Wait()
}

// all is what the decision log says, or what was polled if there is none.
func (t *timeline) all() []seen {
	if logged := t.logged(); len(logged) > 0 {
		return logged
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]seen(nil), t.polled...)
}

func (t *timeline) logged() []seen {
	file, err := os.Open(t.log)
	if err != nil {
		return nil
	}
	defer file.Close()
	var states []seen
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var line struct {
			Time           time.Time
			Event, Job, To string
			Attempt        int64
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Event == "state" && line.Job == t.job {
			states = append(states, seen{line.Time, line.To, line.Attempt})
		}
	}
	return states
}

// states are those after a moment, as text, each with its attempt.
func (t *timeline) states(after time.Time) []string {
	var states []string
	for _, s := range t.all() {
		if s.at.After(after) {
			states = append(states, fmt.Sprintf("%s@%d", s.state, s.attempt))
		}
	}
	return states
}

// attempts is the newest attempt.
func (t *timeline) attempts() int64 {
	newest := int64(0)
	for _, s := range t.all() {
		newest = max(newest, s.attempt)
	}
	return newest
}

// left is how long after a moment the job left RUNNING; false if it did not.
func (t *timeline) left(after time.Time) (time.Duration, bool) {
	for _, s := range t.all() {
		if s.at.After(after) && s.state != "RUNNING" {
			return s.at.Sub(after), true
		}
	}
	return 0, false
}
