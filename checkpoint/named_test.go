package checkpoint

import (
	"testing"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
)

// TestNamed: what an attempt has named stays known, and takes no more room the longer it runs.
func TestNamed(t *testing.T) {
	n := named{}
	key := manifest.TransactionKey{TransactionalID: "c/j/out/0/1/0", ProducerID: 7}
	if n.has(key) {
		t.Error("it was never named")
	}
	for epoch := range int16(30_000) {
		key.ProducerEpoch = epoch
		n.add(key)
	}
	other := key
	other.ProducerID = 8 // after the epochs of the first have run out
	other.ProducerEpoch = 0
	n.add(other)
	key.ProducerEpoch = 12
	if !n.has(key) || !n.has(other) || len(n) != 2 {
		t.Errorf("named %v", n)
	}
	key.ProducerEpoch, other.ProducerEpoch = 30_000, 1
	if n.has(key) || n.has(other) {
		t.Error("an epoch that was not named counts as named")
	}
}
