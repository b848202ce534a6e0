package kafka

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
	"github.com/sluice-stream/sluice/graph"
)

// resolved is the configuration of a source with these properties beside bootstrap.servers.
func resolved(t *testing.T, pairs ...string) *Config {
	t.Helper()
	properties := map[string]string{propBootstrap: "kafka:9092"}
	for i := 0; i < len(pairs); i += 2 {
		properties[pairs[i]] = pairs[i+1]
	}
	cfg, err := Resolve(graph.KindSource, properties)
	if err != nil {
		t.Fatal(err)
	}
	return &cfg
}

// TestZooKeepers: those who ask with the same settings share a session, and the last one leaves it open for a
// while.
func TestZooKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZooKeepers(slog.New(slog.DiscardHandler))
		acquire := func(cfg *Config) (*zookeeper.Client, func()) {
			client, release, err := z.acquire(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return client, release
		}
		same := resolved(t, propZooKeeper, "zk:2181", propGroup, "a")
		first, release := acquire(same)
		second, releaseSecond := acquire(resolved(t, propZooKeeper, "zk:2181", propGroup, "b"))
		other, releaseOther := acquire(resolved(t, propZooKeeper, "zk:2181", propZooKeeperSessionTimeout, "5000"))
		if first != second || first == other {
			t.Error("the same settings do not share, or others do")
		}
		release()
		time.Sleep(2 * zooKeeperIdle)
		if again, release := acquire(same); again != first {
			t.Error("a client that is used was closed")
		} else {
			release()
		}
		releaseSecond()
		time.Sleep(zooKeeperIdle / 2)
		if again, release := acquire(same); again != first {
			t.Error("a client was closed too early")
		} else {
			release()
		}
		time.Sleep(2 * zooKeeperIdle)
		if err := first.Check(t.Context()); !errors.Is(err, zookeeper.ErrClosed) {
			t.Errorf("a client that nobody uses is open: %v", err)
		}
		if err := z.close(); err != nil {
			t.Error(err)
		}
		releaseOther()
		if err := other.Check(t.Context()); !errors.Is(err, zookeeper.ErrClosed) {
			t.Errorf("a client is open after the end: %v", err)
		}
		if _, _, err := z.acquire(same); !errors.Is(err, zookeeper.ErrClosed) {
			t.Errorf("a client after the end: %v", err)
		}
	})
}

func TestZooKeeperConfig(t *testing.T) {
	t.Setenv("ZK_USER", "sluice")
	t.Setenv("ZK_PASSWORD", "hunter2")
	cfg := resolved(t, propZooKeeper, "zk1,zk2:2182/kafka", propZooKeeperSessionTimeout, "5000", propZooKeeperUsername, "${env:ZK_USER}",
		propZooKeeperPassword, "${env:ZK_PASSWORD}", propZooKeeperACL, "true")
	z, err := cfg.zooKeeperConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(z.Servers, ",") != "zk1:2181,zk2:2182" || z.Chroot != "/kafka" || z.SessionTimeout != 5*time.Second ||
		z.ConnectionTimeout != 15*time.Second || z.Auth != "sluice:hunter2" || z.ACL != zookeeper.ACLCreatorAll {
		t.Errorf("%+v", z)
	}
	key := cfg.zooKeeperKey(&z)
	if strings.Contains(key, "hunter2") {
		t.Errorf("the key %s holds the secret", key)
	}
	t.Setenv("ZK_PASSWORD", "hunter3")
	if changed, err := cfg.zooKeeperConfig(nil); err != nil || cfg.zooKeeperKey(&changed) == key {
		t.Errorf("a changed password is not used: %v", err)
	}
	if _, err := resolved(t, propZooKeeper, "zk1", propZooKeeperUsername, "u", propZooKeeperPassword, "${env:ZK_NONE}").zooKeeperConfig(nil); err == nil ||
		!strings.Contains(err.Error(), "ZK_NONE") {
		t.Errorf("error %v", err)
	}
}

// TestMeaning: what is written is read back as the same next offset, and what is written by the other meaning is
// off by one.
func TestMeaning(t *testing.T) {
	for _, meaning := range []graph.OffsetMeaning{graph.MeansLast, graph.MeansNext} {
		for _, next := range []int64{1, 2, 41, 1 << 62} {
			if got := nextOf(meant(next, meaning), meaning); got != next {
				t.Errorf("%s: %d is read back as %d", meaning, next, got)
			}
		}
		if got := nextOf(zookeeper.NoOffset, meaning); got != -1 {
			t.Errorf("%s: no offset is %d", meaning, got)
		}
	}
	if nextOf(meant(5, graph.MeansNext), graph.MeansLast) != 6 || nextOf(meant(5, graph.MeansLast), graph.MeansNext) != 4 {
		t.Error("the trap of one record is another")
	}
	if meant(0, graph.MeansLast) != zookeeper.NoOffset {
		t.Error("nothing processed is something")
	}
}
