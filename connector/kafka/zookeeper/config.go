package zookeeper

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Defaults are those of Flink's consumers for Kafka 0.8; CallTimeout is ours.
const (
	DefaultSessionTimeout    = 60 * time.Second
	DefaultConnectionTimeout = 15 * time.Second
	DefaultCallTimeout       = 10 * time.Second
)

const (
	defaultPort = "2181"
	// maxServers bounds a connect string; an ensemble has three to seven.
	maxServers = 64
	// maxTimeout keeps a slip of the pen (seconds as milliseconds) from being taken for patience.
	maxTimeout = time.Hour
	minTimeout = time.Millisecond
)

// ACL says who may use the nodes that this client creates.
type ACL string

// ACLOpen lets everybody do everything, as Kafka 0.8 and Flink do. ACLCreatorAll lets only the user of
// Config.Auth; /consumers itself, which all groups share, stays open.
const (
	ACLOpen       ACL = "open"
	ACLCreatorAll ACL = "creator-all"
)

// Config says where ZooKeeper is and how long to wait for it. Zero durations are the defaults.
type Config struct {
	Servers []string // HOST:PORT each, of one ensemble
	Chroot  string   // "" or "/a/b": the node below which Kafka keeps its own. Never created, see Client.
	// SessionTimeout is asked for; the server may shorten or lengthen it. A server that does not answer the
	// client's pings for two thirds of it is given up.
	SessionTimeout time.Duration
	// ConnectionTimeout bounds one search for a server that answers; each server gets an equal share of it.
	ConnectionTimeout time.Duration
	// CallTimeout bounds one request; a server that needs longer is given up.
	CallTimeout time.Duration
	Auth        string // "USER:PASSWORD" of the scheme digest, "" for none; a secret, in no error and no log
	ACL         ACL    // "" is ACLOpen
	Logger      *slog.Logger
}

// ParseConnect reads a zookeeper.connect as Kafka's clients do: "h1:2181,h2:2181/kafka". The port is 2181
// where none is given; an IPv6 address stands in brackets.
func ParseConnect(connect string) (servers []string, chroot string, err error) {
	list, path, found := strings.Cut(connect, "/")
	if found && path != "" {
		chroot = "/" + path
	}
	for entry := range strings.SplitSeq(list, ",") {
		server, err := parseServer(strings.TrimSpace(entry))
		if err != nil {
			return nil, "", fmt.Errorf("zookeeper.connect %q: %w; write HOST:PORT,HOST:PORT/CHROOT", connect, err)
		}
		servers = append(servers, server)
	}
	if err := validateChroot(chroot); err != nil {
		return nil, "", fmt.Errorf("zookeeper.connect %q: %w", connect, err)
	}
	return servers, chroot, nil
}

// parseServer adds the default port to a server without one.
func parseServer(entry string) (string, error) {
	if !strings.Contains(entry, ":") || strings.HasPrefix(entry, "[") && strings.HasSuffix(entry, "]") {
		entry += ":" + defaultPort
	}
	return entry, validateServer(entry)
}

func validateServer(server string) error {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return fmt.Errorf("server %q: %w", server, err)
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n@") {
		return fmt.Errorf("server %q has no valid host", server)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("server %q: port %q is no number from 1 to 65535", server, port)
	}
	return nil
}

func validateChroot(chroot string) error {
	if chroot == "" {
		return nil
	}
	if !strings.HasPrefix(chroot, "/") {
		return fmt.Errorf("chroot %q does not begin with /", chroot)
	}
	if strings.Contains(chroot, ",") {
		return fmt.Errorf("chroot %q holds a comma: the chroot stands once, behind the last server", chroot)
	}
	if strings.HasSuffix(chroot, "/") || strings.Contains(chroot, "//") {
		return fmt.Errorf("a part of chroot %q is empty; remove the slash that is too many", chroot)
	}
	for name := range strings.SplitSeq(chroot[1:], "/") {
		if err := CheckName("chroot "+strconv.Quote(chroot)+" with a part", name); err != nil {
			return err
		}
	}
	return nil
}

// withDefaults fills what is zero and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"session timeout", &c.SessionTimeout, DefaultSessionTimeout},
		{"connection timeout", &c.ConnectionTimeout, DefaultConnectionTimeout},
		{"call timeout", &c.CallTimeout, DefaultCallTimeout},
	} {
		if *d.value == 0 {
			*d.value = d.fallback
		}
		if *d.value < minTimeout || *d.value > maxTimeout {
			return c, fmt.Errorf("zookeeper: %s %s is not within %s and %s", d.name, *d.value, minTimeout, maxTimeout)
		}
	}
	if c.ACL == "" {
		c.ACL = ACLOpen
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, c.validate()
}

func (c *Config) validate() error {
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		return fmt.Errorf("zookeeper: %d servers, want 1 to %d; name them in zookeeper.connect", len(c.Servers), maxServers)
	}
	for _, server := range c.Servers {
		if err := validateServer(server); err != nil {
			return fmt.Errorf("zookeeper: %w", err)
		}
	}
	if err := validateChroot(c.Chroot); err != nil {
		return fmt.Errorf("zookeeper: %w", err)
	}
	user, password, _ := strings.Cut(c.Auth, ":")
	switch {
	case c.Auth != "" && (user == "" || password == "" || !utf8.ValidString(c.Auth)):
		return errors.New("zookeeper: the digest credentials are not USER:PASSWORD (they are not shown, being a secret)")
	case c.ACL != ACLOpen && c.ACL != ACLCreatorAll:
		return fmt.Errorf("zookeeper: acl %q is neither %s nor %s", c.ACL, ACLOpen, ACLCreatorAll)
	case c.ACL == ACLCreatorAll && c.Auth == "":
		return fmt.Errorf("zookeeper: acl %s needs digest credentials: without a user there is no creator", ACLCreatorAll)
	}
	return nil
}
