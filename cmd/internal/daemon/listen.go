package daemon

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// checkListen refuses an address outside of loopback unless it is protected by TLS or the operator has
// said that the network is trusted. An empty address is one that is not served.
func checkListen(flag, addr string, protected, insecure bool) error {
	if addr == "" {
		return nil
	}
	host, err := hostOf(flag, addr)
	if err != nil || insecure || protected || host == "localhost" {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		way := "and TLS is off: set --tls-cert, --tls-key and --tls-ca, or pass --insecure if the network is trusted"
		if flag == "http" {
			way = "and HTTP is served without TLS: put a proxy before it, or pass --insecure if the network is trusted"
		}
		return fmt.Errorf("%w: --%s %q is not a loopback address, %s", ErrUsage, flag, addr, way)
	}
	return nil
}

func hostOf(flag, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%w: --%s %q is not HOST:PORT", ErrUsage, flag, addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || port != strconv.FormatUint(n, 10) {
		return "", fmt.Errorf("%w: --%s %q: the port %q is not in 0..65535", ErrUsage, flag, addr, port)
	}
	return host, nil
}

// checkAdvertise refuses a data address that the other task managers cannot dial.
func checkAdvertise(listen, advertise string) error {
	if advertise == "" {
		host, err := hostOf("data-listen", listen)
		if err == nil && unspecified(host) {
			return fmt.Errorf("%w: --data-listen %q is every address of this machine: say with --data-advertise HOST:PORT which one the others dial",
				ErrUsage, listen)
		}
		return err
	}
	host, err := hostOf("data-advertise", advertise)
	if err != nil {
		return err
	}
	if _, port, _ := net.SplitHostPort(advertise); unspecified(host) || port == "0" {
		return fmt.Errorf("%w: --data-advertise %q cannot be dialled: want the address and port that the others reach", ErrUsage, advertise)
	}
	return nil
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// listen is net.Listen with an error that names the flag and the way out.
func listen(flag, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("--%s %s: another process listens there; end that one, or choose another port (0 picks a free one): %w", flag, addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("--%s %s: %w", flag, addr, err)
	}
	return l, nil
}
