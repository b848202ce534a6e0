package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-zookeeper/zk"

	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
)

func TestOffsets(t *testing.T) {
	z := start(t)
	client, conn := connect(t, z.Addr()), z.Session(t)

	t.Run("nothing there", func(t *testing.T) { check(t, client, "none", -1, -1) })

	t.Run("parents and forward only", func(t *testing.T) {
		write(t, client, 2, offset("forward", 0, 0), offset("forward", 1, 9_000_000_000), offset("forward", 2, -1))
		check(t, client, "forward", 0, 9_000_000_000, -1)
		if got := at(t, conn, node("forward", 1)); got != "9000000000" {
			t.Errorf("the node holds %q, want the number in ASCII", got)
		}
		write(t, client, 1, offset("forward", 0, 5), offset("forward", 1, 9_000_000_000), offset("forward", 1, 7))
		check(t, client, "forward", 5, 9_000_000_000)
		_, stat, err := conn.Get(node("forward", 1))
		if err != nil || stat.Version != 0 {
			t.Errorf("version %d, %v: an offset that does not go forward was written", stat.Version, err)
		}
		if found, _, err := conn.Exists(node("forward", 2)); found || err != nil {
			t.Errorf("found %v, %v: a node was made for no offset", found, err)
		}
	})

	t.Run("as others leave it", func(t *testing.T) {
		put(t, conn, node("others", 0), "")
		put(t, conn, node("others", 1), "-1")
		put(t, conn, node("others", 2), "41")
		check(t, client, "others", -1, -1, 41)
		write(t, client, 3, offset("others", 0, 1), offset("others", 1, 2), offset("others", 2, 42))
		check(t, client, "others", 1, 2, 42)
		offsets, err := client.ReadOffsets(bounded(t), "group", []zookeeper.Partition{{Topic: "others", Partition: 2}, {Topic: "others", Partition: 3}})
		if err != nil || offsets[0].Version != 1 || offsets[1].Version != -1 {
			t.Errorf("%+v, %v; want versions 1 and -1", offsets, err)
		}
	})

	t.Run("garbage", func(t *testing.T) {
		put(t, conn, node("garbage", 0), "12 apples")
		_, err := client.ReadOffsets(bounded(t), "group", []zookeeper.Partition{{Topic: "garbage"}})
		says(t, err, node("garbage", 0), `"12 apples"`, z.Addr())
		written, err := client.WriteOffsets(bounded(t), "group", []zookeeper.Offset{offset("garbage", 0, 5), offset("garbage", 1, 6)})
		says(t, err, node("garbage", 0), `"12 apples"`)
		if written != 1 || at(t, conn, node("garbage", 1)) != "6" || at(t, conn, node("garbage", 0)) != "12 apples" {
			t.Errorf("%d written; want the sound partition alone", written)
		}
	})

	t.Run("names that are no paths", func(t *testing.T) { names(t, client) })
	t.Run("a thousand partitions", func(t *testing.T) { thousand(t, client) })
}

func names(t *testing.T, client *zookeeper.Client) {
	for _, group := range []string{"", ".", "..", "a/b", "a\x00b", "a\nb", "a\ufffe", strings.Repeat("g", 300), "\xff"} {
		if _, err := client.WriteOffsets(bounded(t), group, []zookeeper.Offset{offset("t", 0, 1)}); err == nil || !strings.Contains(err.Error(), "group") {
			t.Errorf("group %q: %v, want a refusal", group, err)
		}
	}
	for _, p := range []zookeeper.Partition{{Topic: ".."}, {Topic: "a/b"}, {Topic: ""}, {Topic: "ö"}, {Topic: "t", Partition: -1}} {
		if _, err := client.ReadOffsets(bounded(t), "group", []zookeeper.Partition{p}); err == nil || !strings.Contains(err.Error(), "topic") {
			t.Errorf("partition %+v: %v, want a refusal", p, err)
		}
	}
	for _, group := range []string{"Grüße an alle", "a:b", "..a", "日本"} {
		if written, err := client.WriteOffsets(bounded(t), group, []zookeeper.Offset{offset("t", 0, 1)}); err != nil || written != 1 {
			t.Errorf("group %q: %d written, %v", group, written, err)
		}
	}
}

func thousand(t *testing.T, client *zookeeper.Client) {
	var offsets []zookeeper.Offset
	for p := range 1000 {
		offsets = append(offsets, offset("many", int32(p), int64(p)))
	}
	write(t, client, 1000, offsets...)
	write(t, client, 0, offsets...)
}

// Two writers of one group: neither overwrites a higher offset of the other.
func TestConcurrentWriters(t *testing.T) {
	z := start(t)
	const writers, rounds = 4, 50
	var done sync.WaitGroup
	for w := range writers {
		client := connect(t, z.Addr())
		done.Go(func() {
			for i := range rounds {
				_, err := client.WriteOffsets(bounded(t), "group", []zookeeper.Offset{offset("t", 0, int64(i*writers+w))})
				if err != nil && !strings.Contains(err.Error(), "keep changing") {
					t.Error(err)
				}
			}
		})
	}
	reader := connect(t, z.Addr())
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for last := int64(-1); ; {
			offsets, err := reader.ReadOffsets(bounded(t), "group", []zookeeper.Partition{{Topic: "t"}})
			if err != nil || offsets[0].Value < last {
				t.Errorf("%+v follows %d, %v", offsets, last, err)
				return
			}
			last = offsets[0].Value
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	done.Wait()
	close(stop)
	<-watched
	write(t, reader, 1, offset("t", 0, writers*rounds))
	check(t, reader, "t", writers*rounds)
}

func TestAuthenticationAndACL(t *testing.T) {
	z := start(t)
	as := func(auth string, acl zookeeper.ACL) *zookeeper.Client {
		return connect(t, z.Addr(), func(c *zookeeper.Config) { c.Auth, c.ACL = auth, acl })
	}
	alice := as("alice:secret", zookeeper.ACLCreatorAll)
	write(t, alice, 1, offset("t", 0, 5))
	check(t, as("alice:secret", ""), "t", 5)

	conn := z.Session(t)
	for path, open := range map[string]bool{"/consumers": true, "/consumers/group": false, "/consumers/group/offsets/t": false, node("t", 0): false} {
		acl, _, err := conn.GetACL(path)
		if err != nil && !errors.Is(err, zk.ErrNoAuth) {
			t.Fatal(err)
		}
		if isOpen := err == nil && len(acl) == 1 && acl[0].Scheme == "world"; isOpen != open {
			t.Errorf("%s has the ACL %v (%v), want open: %v", path, acl, err, open)
		}
	}
	for name, client := range map[string]*zookeeper.Client{"wrong password": as("alice:guess", ""), "nobody": as("", "")} {
		_, err := client.ReadOffsets(bounded(t), "group", []zookeeper.Partition{{Topic: "t"}})
		refused(t, name, err)
		_, err = client.WriteOffsets(bounded(t), "group", []zookeeper.Offset{offset("t", 0, 6), offset("t", 1, 6), offset("new", 0, 6)})
		refused(t, name, err)
	}
	check(t, alice, "t", 5, -1)

	// Another group beside hers is open to everybody.
	if written, err := as("", "").WriteOffsets(bounded(t), "open", []zookeeper.Offset{offset("t", 0, 1)}); err != nil || written != 1 {
		t.Errorf("%d written, %v", written, err)
	}
}

func refused(t *testing.T, who string, err error) {
	t.Helper()
	if !errors.Is(err, zookeeper.ErrNoPermission) {
		t.Errorf("%s: %v, want no permission", who, err)
	}
	says(t, err, "/consumers/group/offsets", "check user and password")
	if strings.Contains(err.Error(), "guess") || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows a password: %v", err)
	}
}

func TestChroot(t *testing.T) {
	z := start(t)
	conn := z.Session(t)
	client := connect(t, z.Addr()+"/kafka/east")
	for _, call := range []func() error{
		func() error {
			_, err := client.ReadOffsets(bounded(t), "group", []zookeeper.Partition{{Topic: "t"}})
			return err
		},
		func() error {
			_, err := client.WriteOffsets(bounded(t), "group", []zookeeper.Offset{offset("t", 0, 1)})
			return err
		},
	} {
		err := call()
		if !errors.Is(err, zookeeper.ErrNoChroot) {
			t.Errorf("%v, want that the chroot does not exist", err)
		}
		says(t, err, "/kafka/east", "zookeeper.connect")
	}
	put(t, conn, "/kafka/east", "")
	write(t, client, 1, offset("t", 0, 1))
	check(t, client, "t", 1)
	if got := at(t, conn, "/kafka/east"+node("t", 0)); got != "1" {
		t.Errorf("the node holds %q", got)
	}
	if found, _, err := conn.Exists("/consumers"); found || err != nil {
		t.Errorf("found %v, %v: written beside the chroot", found, err)
	}
}

func TestEndOfContextAndClient(t *testing.T) {
	z := start(t)
	client := connect(t, z.Addr())
	write(t, client, 1, offset("t", 0, 1))
	ctx, cancel := context.WithCancelCause(bounded(t))
	reason := errors.New("the job is canceled")
	z.Pause(t)
	go cancel(reason)
	if _, err := client.WriteOffsets(ctx, "group", []zookeeper.Offset{offset("t", 0, 2)}); !errors.Is(err, reason) {
		t.Errorf("%v, want the reason of the context", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	z.Resume(t)
	if _, err := client.WriteOffsets(bounded(t), "group", nil); !errors.Is(err, zookeeper.ErrClosed) {
		t.Errorf("%v, want %v", err, zookeeper.ErrClosed)
	}
}

// says checks what an error names.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if text := fmt.Sprint(err); !strings.Contains(text, word) {
			t.Errorf("error %q does not say %q", text, word)
		}
	}
}
