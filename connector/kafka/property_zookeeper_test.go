package kafka

import (
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/graph"
)

// TestPasswordInZooKeeperConnect: who writes a login into the addresses is told where it belongs, and nobody sees it.
func TestPasswordInZooKeeperConnect(t *testing.T) {
	_, err := Resolve(graph.KindSource, map[string]string{propBootstrap: "a:1", propGroup: "g", propZooKeeper: "admin:geheim@zk1:2181"})
	if err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), propZooKeeperPassword) {
		t.Errorf("error %v", err)
	}
}
