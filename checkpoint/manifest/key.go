package manifest

import (
	"cmp"
	"fmt"
	"strings"
)

// TransactionKey identifies one transaction for ever: a pair of producer id and epoch serves one
// transaction only (DESIGN rule 10), so the transactional id alone is never compared.
type TransactionKey struct {
	TransactionalID string
	ProducerID      int64
	ProducerEpoch   int16
}

// Key is what the transaction is known by in manifests and in committed marks.
func (t *Transaction) Key() TransactionKey {
	return TransactionKey{TransactionalID: t.TransactionalID, ProducerID: t.ProducerID, ProducerEpoch: t.ProducerEpoch}
}

// String prints the key as id@producer:epoch.
func (k TransactionKey) String() string {
	return fmt.Sprintf("%s@%d:%d", k.TransactionalID, k.ProducerID, k.ProducerEpoch)
}

// Compare orders keys by transactional id, producer id, epoch.
func (k TransactionKey) Compare(o TransactionKey) int {
	return cmp.Or(strings.Compare(k.TransactionalID, o.TransactionalID),
		cmp.Compare(k.ProducerID, o.ProducerID), cmp.Compare(k.ProducerEpoch, o.ProducerEpoch))
}
