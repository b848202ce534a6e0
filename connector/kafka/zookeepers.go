package kafka

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
)

// zooKeeperIdle is how long a session is kept for the next question.
const zooKeeperIdle = 5 * time.Minute

// zooKeeperOf takes the properties of ZooKeeper.
func zooKeeperOf(properties map[string]string) map[string]string {
	out := map[string]string{}
	for _, p := range offsetProperties {
		if v, ok := properties[p.Name]; ok && p.Name != propAutoCommit {
			out[p.Name] = v
		}
	}
	return out
}

// zooKeeperKey tells sessions apart that cannot be shared. It holds references, not secrets, and a digest of what
// they stand for now: a password that was changed is used from the next call on.
func (c *Config) zooKeeperKey(settings *zookeeper.Config) string {
	return fmt.Sprintf("%q %x", c.zooKeeper, sha256.Sum256([]byte(settings.Auth))) // maps are printed in order
}

// zooKeeperCallTimeout bounds one call. It is so short that after a server that hangs the next one can be asked
// within adminTimeout.
const zooKeeperCallTimeout = 3 * time.Second

// zooKeeperConfig reads the secrets and says how to connect.
func (c *Config) zooKeeperConfig(log *slog.Logger) (zookeeper.Config, error) {
	p := c.zooKeeper
	servers, chroot, err := zookeeper.ParseConnect(p[propZooKeeper])
	if err != nil {
		return zookeeper.Config{}, err
	}
	z := zookeeper.Config{
		Servers: servers, Chroot: chroot, Logger: log,
		SessionTimeout:    time.Duration(numberOf(p, propZooKeeperSessionTimeout)) * time.Millisecond,
		ConnectionTimeout: time.Duration(numberOf(p, propZooKeeperConnectionTimeout)) * time.Millisecond,
		CallTimeout:       zooKeeperCallTimeout,
	}
	if user, ok := p[propZooKeeperUsername]; ok {
		username, err := resolveSecret(propZooKeeperUsername, user)
		if err != nil {
			return z, err
		}
		password, err := resolveSecret(propZooKeeperPassword, p[propZooKeeperPassword])
		if err != nil {
			return z, err
		}
		z.Auth = username + ":" + password
	}
	if p[propZooKeeperACL] == "true" {
		z.ACL = zookeeper.ACLCreatorAll
	}
	return z, nil
}

// zooKeepers are the sessions with ZooKeeper of a process, shared by those who ask the same ensemble with the
// same settings, and ended when nobody has asked for a while.
type zooKeepers struct {
	log  *slog.Logger
	idle time.Duration

	mu     sync.Mutex
	closed bool
	open   map[string]*keeper
	ending sync.WaitGroup // those whose time is over
}

// keeper is a shared client.
type keeper struct {
	client *zookeeper.Client
	users  int
	timer  *time.Timer // while nobody uses it
}

func newZooKeepers(log *slog.Logger) *zooKeepers {
	return &zooKeepers{log: log, idle: zooKeeperIdle, open: map[string]*keeper{}}
}

// acquire gives a client, to be released after use.
func (z *zooKeepers) acquire(cfg *Config) (client *zookeeper.Client, release func(), err error) {
	settings, err := cfg.zooKeeperConfig(z.log)
	if err != nil {
		return nil, nil, err
	}
	key := cfg.zooKeeperKey(&settings)
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed {
		return nil, nil, zookeeper.ErrClosed
	}
	k := z.open[key]
	if k == nil {
		client, err := zookeeper.New(settings)
		if err != nil {
			return nil, nil, err
		}
		k = &keeper{client: client}
		z.open[key] = k
	}
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	k.users++
	return k.client, func() { z.release(key, k) }, nil
}

func (z *zooKeepers) release(key string, k *keeper) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if k.users--; k.users == 0 && !z.closed {
		k.timer = time.AfterFunc(z.idle, func() { z.expire(key, k) })
	}
}

// expire ends a session that nobody has used.
func (z *zooKeepers) expire(key string, k *keeper) {
	z.mu.Lock()
	if z.closed || k.users > 0 || k.timer == nil || z.open[key] != k {
		z.mu.Unlock()
		return
	}
	delete(z.open, key)
	z.ending.Add(1)
	z.mu.Unlock()
	defer z.ending.Done()
	if err := k.client.Close(); err != nil {
		z.log.Warn("close the session with ZooKeeper", "reason", err)
	}
}

// close ends all sessions and the calls on them.
func (z *zooKeepers) close() error {
	z.mu.Lock()
	z.closed = true
	var faults []error
	var all []*keeper
	for _, k := range z.open {
		if k.timer != nil {
			k.timer.Stop()
		}
		all = append(all, k)
	}
	clear(z.open)
	z.mu.Unlock()
	for _, k := range all {
		faults = append(faults, k.client.Close())
	}
	z.ending.Wait()
	return errors.Join(faults...)
}
