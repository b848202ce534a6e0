package kafkaenv

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/test/integration/process"
)

// StartZooKeepers starts an ensemble for one test; it ends with the test. It serves as long as more than half of its
// servers run.
func StartZooKeepers(tb testing.TB, servers int) []*ZooKeeper {
	tb.Helper()
	Require(tb, zookeeper39)
	var members strings.Builder
	members.WriteString("initLimit=20\nsyncLimit=10\n") // ticks
	for id := 1; id <= servers; id++ {
		var ports [2]int
		for i := range ports {
			var err error
			if ports[i], err = process.FreePort(); err != nil {
				tb.Fatal(err)
			}
		}
		fmt.Fprintf(&members, "server.%d=127.0.0.1:%d:%d\n", id, ports[0], ports[1])
	}
	var ensemble []*ZooKeeper
	for id := 1; id <= servers; id++ {
		z, err := newZooKeeper(tb.Context(), tb.TempDir(), id, members.String())
		if err != nil {
			tb.Fatal(err)
		}
		ensemble = append(ensemble, z)
		z.endWith(tb)
		must(tb, z.launch())
	}
	for _, z := range ensemble {
		must(tb, z.serves(tb.Context()))
	}
	return ensemble
}
