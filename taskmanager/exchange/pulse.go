package exchange

import (
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// beatEvery is how often each side of a stream gives a sign of life, whatever else it has to say.
	beatEvery = time.Second
	// silentBeats of the own ones without a message of the peer mean that the line is dead: after five to six seconds,
	// a little later than the job manager would miss the heartbeats of a stopped process.
	silentBeats = 5
)

// errSilent ends a stream on which the peer is not heard.
var errSilent = fmt.Errorf("nothing was heard from it for %v", silentBeats*beatEvery)

// pulse watches for the signs of life on one side of a stream. It counts the beats of a ticker instead of asking for
// the time: grpc's keepalive goes by the wall clock, which may jump, and while this process was stopped nobody could
// be heard.
type pulse struct {
	heard  atomic.Uint64 // messages of the peer
	seen   uint64        // heard, at the beat before
	silent int           // beats in a row without a message
}

// hear notes a message of the peer.
func (p *pulse) hear() { p.heard.Add(1) }

// beat counts a beat; one goroutine does so. A peer is missed only after its first message: before it, the peer may
// wait for its deployment.
func (p *pulse) beat() error {
	if n := p.heard.Load(); n != p.seen || n == 0 {
		p.seen, p.silent = n, 0
		return nil
	}
	if p.silent++; p.silent < silentBeats {
		return nil
	}
	return errSilent
}
