package lite

import (
	"context"
	"fmt"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
)

type Admin struct{}

func (Admin) CheckProperties(graph.Kind, map[string]string) []error                { return nil }
func (Admin) Check(context.Context, *graph.Job) error                              { return nil }
func (Admin) Close() error                                                         { return nil }
func (Admin) PublishOffsets(context.Context, *graph.Job, *manifest.Manifest) error { return nil }
func (Admin) Assign(p []manifest.Position, n int) [][]manifest.Position {
	out := make([][]manifest.Position, n)
	for i, x := range p {
		out[i%n] = append(out[i%n], x)
	}
	return out
}
func (Admin) StartPositions(ctx context.Context, job *graph.Job) ([]manifest.Position, []string, error) {
	var out []manifest.Position
	for i := range job.Sources {
		s := &job.Sources[i]
		c := newClient(s.Kafka.Properties)
		defer c.tr.CloseIdleConnections()
		md, err := c.metadata(ctx, s.Kafka.Topics...)
		if err != nil {
			return nil, nil, err
		}
		for _, t := range md.Topics {
			if err := code(t.ErrorCode); err != nil {
				return nil, nil, fmt.Errorf("topic %s: %w", t.Name, err)
			}
			for _, p := range t.Partitions {
				pos := manifest.Position{Split: manifest.Split{Source: s.Name, Topic: t.Name, Partition: p.PartitionIndex}, LeaderEpoch: -1, Stop: -1}
				if pos.Next, err = c.list(ctx, t.Name, p.PartitionIndex, -2); err != nil {
					return nil, nil, err
				}
				switch s.Kafka.Bounded.Mode {
				case graph.BoundOffsets:
					pos.Stop = s.Kafka.Bounded.Offsets[t.Name][p.PartitionIndex]
				case graph.BoundLatest:
					if pos.Stop, err = c.list(ctx, t.Name, p.PartitionIndex, -1); err != nil {
						return nil, nil, err
					}
				}
				out = append(out, pos)
			}
		}
	}
	return out, nil, nil
}
