package wire

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
)

// needed is the range of versions that this package speaks per call. The upper ends are kafka-go's
// (or those of fetch.go and produce.go); what a broker offers must overlap.
var needed = []struct {
	key protocol.ApiKey
	min int16
	max int16
	use string
}{
	{protocol.Produce, 3, 8, "writing"},
	{protocol.Fetch, 4, 11, "reading"},
	{protocol.ListOffsets, 1, 5, "start offsets"},
	{protocol.Metadata, 1, 8, "everything"},
	{protocol.OffsetCommit, 0, 7, "publishing offsets"},
	{protocol.OffsetFetch, 0, 5, "startup: committed"},
	{protocol.FindCoordinator, 1, 2, "groups and transactions"},
	{protocol.InitProducerId, 0, 4, "idempotent writing"},
	{protocol.AddPartitionsToTxn, 0, 3, "transactions"},
	{protocol.EndTxn, 0, 3, "transactions"},
	{protocol.DescribeConfigs, 0, 3, "topic limits"},
}

// CheckVersions asks a broker which calls it offers and compares them with those that Sluice needs.
// Every gap is named with both ranges and the address. A broker before 0.10 does not know the
// question and closes the connection; Config.BrokerVersion is for those.
func (c *Cluster) CheckVersions(ctx context.Context) error {
	if c.cfg.legacy() {
		return c.checkLegacy(ctx)
	}
	return c.anyBroker(ctx, func(ctx context.Context, a net.Addr) error {
		res, err := ask[*apiversions.Response](ctx, c, a, &apiversions.Request{}, true)
		if err != nil {
			return err
		}
		if res.ErrorCode != 0 {
			return answerError(res.ErrorCode, "ApiVersions", a.String(), "", -1)
		}
		return compareVersions(res, a.String())
	})
}

func compareVersions(res *apiversions.Response, address string) error {
	offered := map[protocol.ApiKey]apiversions.ApiKeyResponse{}
	for _, k := range res.ApiKeys {
		offered[protocol.ApiKey(k.ApiKey)] = k
	}
	var faults []error
	if f := offered[protocol.Fetch]; f.MaxVersion > 0 && f.MaxVersion < 4 {
		faults = append(faults, versionError(address, "it is a Kafka 0.10; with broker.version: %s it is read and written at-least-once", Broker090))
	}
	for _, n := range needed {
		o, ok := offered[n.key]
		switch {
		case !ok:
			faults = append(faults, versionError(address, "%v (%s): the broker does not offer it", n.key, n.use))
		case o.MinVersion > n.max || o.MaxVersion < n.min:
			faults = append(faults, versionError(address, "%v (%s): the broker offers v%d to v%d, Sluice speaks v%d to v%d", n.key, n.use, o.MinVersion, o.MaxVersion, n.min, n.max))
		}
	}
	return errors.Join(faults...)
}

func versionError(address, format string, args ...any) error {
	return &Error{Code: CodeUnsupportedVersion, API: "ApiVersions", Address: address, Partition: -1, Detail: fmt.Sprintf(format, args...)}
}
