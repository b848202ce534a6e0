package taskmanager

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-stream/sluice/ident"
)

// TestUploads: an upload ends with its checkpoint, when that is aborted or a newer one has begun, and with its attempt.
func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var u uploads
		var mu sync.Mutex
		ended := map[ident.CheckpointID]bool{}
		start := func(id ident.CheckpointID) {
			u.start(ctx, id, func(ctx context.Context) {
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				ended[id] = true
			})
			synctest.Wait()
		}
		check := func(when string, want ...ident.CheckpointID) {
			t.Helper()
			synctest.Wait()
			if len(ended) != len(want) {
				t.Errorf("%s: ended %v, want %v", when, ended, want)
			}
			for _, id := range want {
				if !ended[id] {
					t.Errorf("%s: ended %v, want %v", when, ended, want)
				}
			}
		}
		start(1)
		start(1) // of another subtask
		check("while it is drawn")
		u.end(1)
		check("after its abort", 1)
		start(2)
		start(4)
		check("after a newer one has begun", 1, 2)
		u.end(5)
		check("after an abort", 1, 2, 4)
		start(5)
		check("aborted before its ack was ready", 1, 2, 4, 5)
		start(6)
		cancel()
		check("after the attempt", 1, 2, 4, 5, 6)
		u.running.Wait()
	})
}

// TestEndsWithin: an attempt has its whole time to end, and no more.
func TestEndsWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			after, took time.Duration
			want        bool
		}{{0, 0, true}, {29 * time.Second, 29 * time.Second, true}, {31 * time.Second, 30 * time.Second, false}} {
			done, began := make(chan struct{}), time.Now()
			time.AfterFunc(c.after, func() { close(done) })
			if got := endsWithin(30*time.Second, done); got != c.want || time.Since(began) != c.took {
				t.Errorf("ended after %s: %v after %s", c.after, got, time.Since(began))
			}
			<-done
		}
	})
}
