package kafkaenv

import (
	"testing"
	"time"
)

func TestZooKeeper(t *testing.T) {
	began := time.Now()
	z := StartZooKeeper(t)
	t.Logf("started in %s", time.Since(began).Round(time.Millisecond))
	z.Kill(t)
	if err := z.answers(); err == nil {
		t.Error("answers after it was killed")
	}
	z.Restart(t)
	z.Stop(t)
	z.Wipe(t)
	z.Restart(t)
}
