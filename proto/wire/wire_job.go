// Package wire translates between protobuf messages and the domain types of graph, ident and manifest,
// for the job manager, the task managers and the command line alike. No other package outside of the
// gRPC edges knows the generated types.
package wire

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-stream/sluice/graph"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
)

// JobToProto translates a job for Submit and Deploy.
func JobToProto(j *graph.Job) *pb.Job {
	out := &pb.Job{
		Name: j.Name, Parallelism: int32(j.Parallelism), MaxParallelism: int32(j.MaxParallelism),
		Checkpoint: &pb.Checkpointing{
			Interval: durationpb.New(j.Checkpoint.Interval), Timeout: durationpb.New(j.Checkpoint.Timeout),
			MinPause: durationpb.New(j.Checkpoint.MinPause), Retain: int32(j.Checkpoint.Retain),
			TolerableFailures: int32(j.Checkpoint.TolerableFailures),
		},
		Restart: &pb.Restart{
			Strategy: string(j.Restart.Strategy), Initial: durationpb.New(j.Restart.Initial), Max: durationpb.New(j.Restart.Max),
			Attempts: int32(j.Restart.Attempts), HealthyAfter: durationpb.New(j.Restart.HealthyAfter),
		},
	}
	for i := range j.Sources {
		out.Sources = append(out.Sources, sourceToProto(&j.Sources[i]))
	}
	for i := range j.Operators {
		out.Operators = append(out.Operators, operatorToProto(&j.Operators[i]))
	}
	for i := range j.Sinks {
		out.Sinks = append(out.Sinks, sinkToProto(&j.Sinks[i]))
	}
	return out
}

func sourceToProto(s *graph.Source) *pb.Source {
	out := &pb.Source{Name: s.Name, Parallelism: int32(s.Parallelism)}
	if k := s.Kafka; k != nil {
		out.Kafka = &pb.KafkaSource{
			Topics: k.Topics, TopicPattern: k.TopicPattern,
			Startup:        offsetSpecToProto(string(k.Startup.Mode), k.Startup.Timestamp, k.Startup.Offsets),
			Bounded:        offsetSpecToProto(string(k.Bounded.Mode), k.Bounded.Timestamp, k.Bounded.Offsets),
			OffsetsStorage: string(k.Offsets), OnError: string(k.OnError.Policy), DeadLetterTopic: k.OnError.DeadLetterTopic,
			Format: string(k.Format), KeyFormat: string(k.KeyFormat), Properties: k.Properties,
			Partitions: partitionsToProto(k.Partitions), Mode: string(k.Mode), OffsetsMeaning: string(k.OffsetsMeaning), Until: k.Until,
		}
	}
	return out
}

func partitionsToProto(set map[string][]int32) []*pb.PartitionOffset {
	var out []*pb.PartitionOffset
	for _, topic := range slices.Sorted(maps.Keys(set)) {
		for _, p := range set[topic] {
			out = append(out, &pb.PartitionOffset{Topic: topic, Partition: p})
		}
	}
	return out
}

func partitionsFromProto(in []*pb.PartitionOffset) map[string][]int32 {
	if len(in) == 0 {
		return nil
	}
	out := map[string][]int32{}
	for _, p := range in {
		out[p.GetTopic()] = append(out[p.GetTopic()], p.GetPartition())
	}
	return out
}

func offsetSpecToProto(mode string, at time.Time, offsets map[string]map[int32]int64) *pb.OffsetSpec {
	out := &pb.OffsetSpec{Mode: mode, Offsets: offsetsToProto(offsets)}
	if !at.IsZero() {
		out.Timestamp = timestamppb.New(at)
	}
	return out
}

func offsetsToProto(offsets map[string]map[int32]int64) []*pb.PartitionOffset {
	var out []*pb.PartitionOffset
	for topic, parts := range offsets {
		for p, o := range parts {
			out = append(out, &pb.PartitionOffset{Topic: topic, Partition: p, Offset: o})
		}
	}
	slices.SortFunc(out, func(a, b *pb.PartitionOffset) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Partition) - int(b.Partition)
	})
	return out
}

func operatorToProto(o *graph.Operator) *pb.Operator {
	out := &pb.Operator{Name: o.Name, Parallelism: int32(o.Parallelism), From: o.From, KeyBy: o.KeyBy}
	switch {
	case o.Filter != "":
		out.Verb = &pb.Operator_Filter{Filter: o.Filter}
	case o.Map != nil:
		out.Verb = &pb.Operator_Map{Map: &pb.Map{Key: o.Map.Key, Value: o.Map.Value, Headers: o.Map.Headers, Timestamp: o.Map.Timestamp}}
	case o.FlatMap != "":
		out.Verb = &pb.Operator_FlatMap{FlatMap: o.FlatMap}
	case o.Count:
		out.Verb = &pb.Operator_Count{Count: &pb.Count{}}
	}
	return out
}

func sinkToProto(s *graph.Sink) *pb.Sink {
	out := &pb.Sink{Name: s.Name, Parallelism: int32(s.Parallelism), From: s.From, KeyBy: s.KeyBy}
	switch {
	case s.Kafka != nil:
		out.Kind = &pb.Sink_Kafka{Kafka: &pb.KafkaSink{
			Topic: s.Kafka.Topic, TopicExpression: s.Kafka.TopicExpression, Guarantee: string(s.Kafka.Guarantee),
			Partitioner: string(s.Kafka.Partitioner), PartitionerExpression: s.Kafka.PartitionerExpression, Properties: s.Kafka.Properties,
			TransactionalIdPrefix: s.Kafka.TransactionalIDPrefix,
		}}
	case s.Print != nil:
		out.Kind = &pb.Sink_Print{Print: &pb.PrintSink{}}
	}
	return out
}

// JobFromProto translates a submitted job and fills in defaults. It fails only for what has no
// translation (a duration or time out of range, an offset given twice); graph.Validate judges the rest.
func JobFromProto(in *pb.Job) (*graph.Job, error) {
	j := &graph.Job{
		Name: in.GetName(), Parallelism: int(in.GetParallelism()), MaxParallelism: int(in.GetMaxParallelism()),
		Checkpoint: checkpointingFromProto(in.GetCheckpoint()), Restart: restartFromProto(in.GetRestart()),
	}
	if j.Parallelism == 0 {
		j.Parallelism = 1
	}
	if j.MaxParallelism == 0 {
		j.MaxParallelism = graph.DefaultMaxParallelism
	}
	for _, s := range in.GetSources() {
		src, err := sourceFromProto(s)
		if err != nil {
			return nil, fmt.Errorf("source %q: %w", s.GetName(), err)
		}
		j.Sources = append(j.Sources, src)
	}
	for _, o := range in.GetOperators() {
		j.Operators = append(j.Operators, operatorFromProto(o))
	}
	for _, s := range in.GetSinks() {
		j.Sinks = append(j.Sinks, sinkFromProto(s))
	}
	return j, nil
}

func checkpointingFromProto(in *pb.Checkpointing) graph.Checkpointing {
	out := graph.DefaultCheckpointing()
	out.Interval, out.MinPause = in.GetInterval().AsDuration(), in.GetMinPause().AsDuration()
	if in.GetTimeout() != nil {
		out.Timeout = in.GetTimeout().AsDuration()
	}
	if in.GetRetain() != 0 {
		out.Retain = int(in.GetRetain())
	}
	if in != nil {
		out.TolerableFailures = int(in.GetTolerableFailures())
	}
	return out
}

func restartFromProto(in *pb.Restart) graph.Restart {
	if in == nil || in.GetStrategy() == "" {
		return graph.DefaultRestart()
	}
	return graph.Restart{
		Strategy: graph.RestartStrategy(in.GetStrategy()), Initial: in.GetInitial().AsDuration(), Max: in.GetMax().AsDuration(),
		Attempts: int(in.GetAttempts()), HealthyAfter: in.GetHealthyAfter().AsDuration(),
	}
}

func sourceFromProto(s *pb.Source) (graph.Source, error) {
	out := graph.Source{Name: s.GetName(), Parallelism: int(s.GetParallelism())}
	k := s.GetKafka()
	if k == nil {
		return out, nil
	}
	startAt, starts, err := offsetSpecFromProto(k.GetStartup())
	if err != nil {
		return out, fmt.Errorf("startup: %w", err)
	}
	endAt, ends, err := offsetSpecFromProto(k.GetBounded())
	if err != nil {
		return out, fmt.Errorf("bounded: %w", err)
	}
	out.Kafka = &graph.KafkaSource{
		Topics: k.GetTopics(), TopicPattern: k.GetTopicPattern(),
		Startup: graph.Startup{Mode: graph.StartupMode(orDefault(k.GetStartup().GetMode(), string(graph.StartCommitted))), Timestamp: startAt, Offsets: starts},
		Bounded: graph.Bound{Mode: graph.BoundMode(orDefault(k.GetBounded().GetMode(), string(graph.BoundNone))), Timestamp: endAt, Offsets: ends},
		Offsets: graph.OffsetStorage(orDefault(k.GetOffsetsStorage(), string(graph.OffsetsKafka))),
		OnError: graph.OnError{Policy: graph.ErrorPolicy(orDefault(k.GetOnError(), string(graph.Fail))), DeadLetterTopic: k.GetDeadLetterTopic()},
		Format:  graph.Format(orDefault(k.GetFormat(), string(graph.Bytes))), KeyFormat: graph.Format(orDefault(k.GetKeyFormat(), string(graph.Bytes))),
		Properties: k.GetProperties(), Partitions: partitionsFromProto(k.GetPartitions()), Until: k.GetUntil(),
		Mode:           graph.SourceMode(orDefault(k.GetMode(), string(graph.ModeAssigned))),
		OffsetsMeaning: graph.OffsetMeaning(orDefault(k.GetOffsetsMeaning(), string(graph.MeansLast))),
	}
	return out, nil
}

func offsetSpecFromProto(in *pb.OffsetSpec) (at time.Time, offsets map[string]map[int32]int64, err error) {
	if t := in.GetTimestamp(); t != nil {
		if err := t.CheckValid(); err != nil {
			return at, nil, err
		}
		at = t.AsTime()
	}
	for _, o := range in.GetOffsets() {
		if offsets == nil {
			offsets = map[string]map[int32]int64{}
		}
		parts := offsets[o.GetTopic()]
		if parts == nil {
			parts = map[int32]int64{}
			offsets[o.GetTopic()] = parts
		}
		if _, twice := parts[o.GetPartition()]; twice {
			return at, nil, fmt.Errorf("partition %d of topic %q is given twice", o.GetPartition(), o.GetTopic())
		}
		parts[o.GetPartition()] = o.GetOffset()
	}
	return at, offsets, nil
}

func operatorFromProto(o *pb.Operator) graph.Operator {
	out := graph.Operator{Name: o.GetName(), Parallelism: int(o.GetParallelism()), From: o.GetFrom(), KeyBy: o.GetKeyBy()}
	switch v := o.GetVerb().(type) {
	case *pb.Operator_Filter:
		out.Filter = v.Filter
	case *pb.Operator_Map:
		out.Map = &graph.Map{Key: v.Map.GetKey(), Value: v.Map.GetValue(), Headers: v.Map.GetHeaders(), Timestamp: v.Map.GetTimestamp()}
	case *pb.Operator_FlatMap:
		out.FlatMap = v.FlatMap
	case *pb.Operator_Count:
		out.Count = true
	}
	return out
}

func sinkFromProto(s *pb.Sink) graph.Sink {
	out := graph.Sink{Name: s.GetName(), Parallelism: int(s.GetParallelism()), From: s.GetFrom(), KeyBy: s.GetKeyBy()}
	switch v := s.GetKind().(type) {
	case *pb.Sink_Kafka:
		out.Kafka = &graph.KafkaSink{
			Topic: v.Kafka.GetTopic(), TopicExpression: v.Kafka.GetTopicExpression(),
			Guarantee:             graph.Guarantee(orDefault(v.Kafka.GetGuarantee(), string(graph.AtLeastOnce))),
			Partitioner:           graph.PartitionerMode(orDefault(v.Kafka.GetPartitioner(), string(graph.ByKey))),
			PartitionerExpression: v.Kafka.GetPartitionerExpression(), Properties: v.Kafka.GetProperties(),
			TransactionalIDPrefix: v.Kafka.GetTransactionalIdPrefix(),
		}
	case *pb.Sink_Print:
		out.Print = &graph.PrintSink{}
	}
	return out
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
