package exchange

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

func checkWithGeneratedCode(t *testing.T, frame []byte, name Channel, data []byte) {
	t.Helper()
	var f pb.ExchangeFrame
	if err := proto.Unmarshal(frame, &f); err != nil {
		t.Fatal(err)
	}
	b := f.GetBatch()
	if got := (Channel{int(b.GetEdge()), int(b.GetSender()), int(b.GetReceiver())}); got != name || !bytes.Equal(b.GetData(), data) {
		t.Fatalf("generated code reads %v with %d bytes", got, len(b.GetData()))
	}
	canonical, err := proto.Marshal(&f)
	if err != nil {
		t.Fatal(err)
	}
	var m inMessage
	if keep, err := m.parse(canonical); err != nil || !keep || m.channel != name || !bytes.Equal(m.data, data) {
		t.Fatalf("what generated code writes is read as %v with %d bytes, %v", m.channel, len(m.data), err)
	}
}
