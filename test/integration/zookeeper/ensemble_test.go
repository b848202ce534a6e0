package zookeeper

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-stream/sluice/connector/kafka/zookeeper"
	"github.com/sluice-stream/sluice/test/integration/kafkaenv"
)

// An ensemble loses one server after the other, and then its quorum. No offset goes back, and what was written on one
// server is there on the others.
func TestEnsemble(t *testing.T) {
	if testing.Short() {
		t.Skip("starts an ensemble")
	}
	ensemble := kafkaenv.StartZooKeepers(t, 3)
	var addresses []string
	for _, z := range ensemble {
		addresses = append(addresses, z.Addr())
	}
	client := connect(t, strings.Join(addresses, ","))
	value := int64(0)
	next := func(t *testing.T) {
		t.Helper()
		value++
		ready(t, client, offset("t", 0, value)) // an election takes a moment
		check(t, client, "t", value)
	}

	t.Run("each server sees what another one took", func(t *testing.T) {
		for range 10 {
			next(t)
			for _, address := range addresses {
				check(t, connect(t, address), "t", value)
			}
		}
	})
	t.Run("each server is killed in turn", func(t *testing.T) {
		for _, z := range ensemble {
			z.Kill(t)
			next(t)
			z.Restart(t)
			next(t)
		}
	})
	t.Run("without a quorum", func(t *testing.T) {
		ensemble[0].Kill(t)
		ensemble[1].Kill(t)
		_, err := client.WriteOffsets(bounded(t), "group", []zookeeper.Offset{offset("t", 0, value+1)})
		if !errors.Is(err, zookeeper.ErrUnreachable) {
			t.Errorf("%v, want that no server answers", err)
		}
		says(t, err, addresses[0], addresses[1], addresses[2], "refused")
		ensemble[0].Restart(t)
		value++ // it may have been taken
		next(t)
	})
}
