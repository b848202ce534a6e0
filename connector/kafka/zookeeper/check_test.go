package zookeeper

import (
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	onFake(t, func(t *testing.T, e *fakeEnsemble, c *Client) {
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
		session := c.session
		if err := c.Check(t.Context()); err != nil || c.session != session {
			t.Errorf("%v, session kept: %v", err, c.session == session)
		}
		c.cfg.Chroot = "/kafka"
		session.end(errors.New("lost"))
		if err := c.Check(t.Context()); !errors.Is(err, ErrNoChroot) || !strings.Contains(err.Error(), "/kafka") {
			t.Errorf("%v, want that the chroot does not exist", err)
		}
		e.put("/kafka", "")
		if err := c.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
