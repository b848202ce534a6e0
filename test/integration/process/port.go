package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports below the range that Linux gives to outgoing connections (ip_local_port_range): a server that is
// down for a moment gets its port back, nobody can have been given it meanwhile.
const (
	portFirst = 15000
	portLast  = 31999
)

// given are the ports that this process has been given so far.
var (
	givenMu sync.Mutex
	given   = map[int]bool{}
)

// FreePort finds a TCP port on 127.0.0.1 that nobody listens on now and that stays good for restarts. It does not give a port
// twice: whoever got it before may be about to listen on it, or be down for a moment.
func FreePort() (int, error) {
	var last error
	for range 100 {
		port, isNew := anotherPort()
		if !isNew {
			last = fmt.Errorf("port %d was given already", port)
			continue
		}
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

// anotherPort draws a port; false: it was drawn before.
func anotherPort() (port int, isNew bool) {
	givenMu.Lock()
	defer givenMu.Unlock()
	if len(given) > (portLast-portFirst)/2 {
		clear(given) // a process of hours
	}
	port = portFirst + rand.IntN(portLast-portFirst)
	isNew = !given[port]
	given[port] = true
	return port, isNew
}
