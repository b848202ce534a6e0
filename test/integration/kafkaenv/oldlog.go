package kafkaenv

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PlaceLog gives partition 0 of an empty topic of a single real broker a log that another broker wrote, as an upgrade in place
// does. The broker is stopped in an orderly way, started again, and has to see the log.
func (c *Cluster) PlaceLog(tb testing.TB, topic string, log []byte) {
	tb.Helper()
	b, ok := c.servers[0].(*broker)
	if !ok || len(c.servers) != 1 {
		tb.Fatalf("%s with %d nodes has no log directory to place a log in", c.kind, len(c.servers))
	}
	c.Stop(tb, 0)
	dir := filepath.Join(b.dir, "data", topic+"-0")
	for _, index := range []string{"index", "timeindex"} {
		if err := os.Remove(filepath.Join(dir, "00000000000000000000."+index)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000000.log"), log, 0o644); err != nil {
		tb.Fatal(err)
	}
	c.Restart(tb, 0)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(callTimeout); c.Ends(tb, topic)[0] == 0; <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("%s does not see the log in %s\n%s", c.kind, dir, c.Logs())
		}
	}
}
