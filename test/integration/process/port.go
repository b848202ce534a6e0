package process

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports below the range that Linux gives to outgoing connections (ip_local_port_range): a server that is
// down for a moment gets its port back, nobody can have been given it meanwhile.
const (
	portFirst = 15000
	portLast  = 31999
)

// FreePort finds a TCP port on 127.0.0.1 that nobody listens on now and that stays good for restarts.
func FreePort() (int, error) {
	var last error
	for range 100 {
		port := portFirst + rand.IntN(portLast-portFirst)
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
