package daemon

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// handshakePause is how often a refused handshake of the same kind is worth a line: who is refused tries
// again twice a second.
const handshakePause = 10 * time.Second

// loggedHandshakes tells the operator of this side why a peer was turned away: gRPC itself is silent.
type loggedHandshakes struct {
	credentials.TransportCredentials
	log  *slog.Logger
	told *toldReasons
}

// toldReasons bounds the log: one line per reason and pause. Reasons are few, as they hold no ports.
type toldReasons struct {
	mu sync.Mutex
	at map[string]time.Time
}

// logHandshakes is nil for nil: no TLS.
func logHandshakes(c credentials.TransportCredentials, log *slog.Logger) credentials.TransportCredentials {
	if c == nil {
		return nil
	}
	return &loggedHandshakes{c, log, &toldReasons{at: map[string]time.Time{}}}
}

// ServerHandshake is credentials.TransportCredentials'.
func (l *loggedHandshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := l.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		peer, _, _ := net.SplitHostPort(raw.RemoteAddr().String()) // without it the reason still stands
		if l.told.isNew(peer+" "+err.Error(), time.Now()) {
			l.log.Warn("TLS handshake failed", "peer", peer, "reason", err)
		}
	}
	return conn, info, err
}

// Clone is credentials.TransportCredentials'.
func (l *loggedHandshakes) Clone() credentials.TransportCredentials {
	return &loggedHandshakes{l.TransportCredentials.Clone(), l.log, l.told}
}

// isNew says whether reason was not told within the last pause, and forgets what is older.
func (t *toldReasons) isNew(reason string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r, at := range t.at {
		if now.Sub(at) >= handshakePause {
			delete(t.at, r)
		}
	}
	if _, told := t.at[reason]; told || len(t.at) >= maxToldReasons {
		return false
	}
	t.at[reason] = now
	return true
}

// maxToldReasons bounds the memory, and the lines per pause, that a port scan can cause.
const maxToldReasons = 100
