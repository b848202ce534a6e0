package jobmanager

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-stream/sluice/graph"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// encodeGraph is a job as it is stored: the protobuf message that was submitted, which later releases
// read as they read one from the wire.
func encodeGraph(j *graph.Job) ([]byte, error) {
	data, err := proto.Marshal(wire.JobToProto(j))
	if err != nil {
		return nil, fmt.Errorf("encode job %s: %w", j.Name, err)
	}
	return data, nil
}

// decodeGraph is the inverse of encodeGraph.
func decodeGraph(data []byte) (*graph.Job, error) {
	in := &pb.Job{}
	if err := proto.Unmarshal(data, in); err != nil {
		return nil, err
	}
	return wire.JobFromProto(in)
}
