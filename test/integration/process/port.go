package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Ports below the range that Linux gives to outgoing connections (ip_local_port_range): a server that is
// down for a moment gets its port back, nobody can have been given it meanwhile.
const (
	portFirst = 15000
	portLast  = 31999
)

// given counts the ports that were tried so far, from a place of this process's own on.
var given atomic.Int64

var firstGiven = rand.Int64N(portLast - portFirst)

// FreePort finds a TCP port on 127.0.0.1 that nobody listens on now and that stays good for restarts. It does not give
// the same port twice in a row of thousands: whoever got it before may be about to listen on it.
func FreePort() (int, error) {
	var last error
	for range 100 {
		port := portFirst + int((firstGiven+given.Add(1))%(portLast-portFirst))
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("closing the probe of port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port in %d-%d after 100 attempts: %w", portFirst, portLast, last)
}
