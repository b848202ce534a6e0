package wire_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
	"github.com/sluice-stream/sluice/operator/expression"
	pb "github.com/sluice-stream/sluice/proto/sluice/v1"
	"github.com/sluice-stream/sluice/proto/wire"
)

// over sends a message through its bytes.
func over[M proto.Message](t rapid.TB, in, out M) M {
	data, err := proto.Marshal(in)
	if err == nil {
		err = proto.Unmarshal(data, out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// names, texts and durations are as wild as a job may hold them; validity is graph's business.
var (
	texts     = rapid.StringN(0, 20, 60)
	durations = rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "ns")) })
	numbers   = rapid.IntRange(-5, 1<<31-1)
)

func orZero[T any](t *rapid.T, g *rapid.Generator[T], label string) (v T) {
	if rapid.Bool().Draw(t, label+" is set") {
		v = g.Draw(t, label)
	}
	return v
}

func nonZero(n int) int {
	if n == 0 {
		return 1 // zero means the default
	}
	return n
}

func drawOffsets(t *rapid.T) map[string]map[int32]int64 {
	return orZero(t, rapid.MapOfN(texts, rapid.MapOfN(rapid.Int32(), rapid.Int64(), 1, 3), 0, 3), "offsets")
}

func drawTime(t *rapid.T) time.Time {
	return orZero(t, rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-1<<35, 1<<35).Draw(t, "sec"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns")).UTC()
	}), "time")
}

func drawSource(t *rapid.T) graph.Source {
	s := graph.Source{Name: texts.Draw(t, "name"), Parallelism: numbers.Draw(t, "parallelism")}
	if rapid.Bool().Draw(t, "kafka") {
		word := rapid.SampledFrom([]string{"committed", "earliest", "offsets", "x"})
		s.Kafka = &graph.KafkaSource{
			Topics: rapid.SliceOfN(texts, 0, 3).Draw(t, "topics"), TopicPattern: texts.Draw(t, "pattern"),
			Startup: graph.Startup{Mode: graph.StartupMode(word.Draw(t, "start")), Timestamp: drawTime(t), Offsets: drawOffsets(t)},
			Bounded: graph.Bound{Mode: graph.BoundMode(word.Draw(t, "bound")), Timestamp: drawTime(t), Offsets: drawOffsets(t)},
			Offsets: graph.OffsetStorage(word.Draw(t, "storage")), OnError: graph.OnError{Policy: graph.ErrorPolicy(word.Draw(t, "policy")), DeadLetterTopic: texts.Draw(t, "dead")},
			Format: graph.Format(word.Draw(t, "format")), KeyFormat: graph.Format(word.Draw(t, "key format")),
			Properties: rapid.MapOfN(texts, texts, 0, 3).Draw(t, "properties"),
			Partitions: drawPartitions(t), Mode: graph.SourceMode(word.Draw(t, "mode")),
			OffsetsMeaning: graph.OffsetMeaning(word.Draw(t, "meaning")), Until: texts.Draw(t, "until"),
		}
	}
	return s
}

func drawPartitions(t *rapid.T) map[string][]int32 {
	return rapid.MapOfN(texts, rapid.SliceOfN(rapid.Int32(), 1, 3), 0, 3).Draw(t, "partitions")
}

func drawOperator(t *rapid.T) graph.Operator {
	o := graph.Operator{Name: texts.Draw(t, "name"), Parallelism: numbers.Draw(t, "parallelism"), From: rapid.SliceOfN(texts, 0, 3).Draw(t, "from"), KeyBy: texts.Draw(t, "keyBy")}
	switch rapid.IntRange(0, 4).Draw(t, "verb") {
	case 1:
		o.Filter = texts.Draw(t, "filter")
	case 2:
		o.Map = &graph.Map{Key: texts.Draw(t, "key"), Value: texts.Draw(t, "value"), Headers: texts.Draw(t, "headers"), Timestamp: texts.Draw(t, "timestamp")}
	case 3:
		o.FlatMap = texts.Draw(t, "flatMap")
	case 4:
		o.Count = true
	}
	return o
}

func drawSink(t *rapid.T) graph.Sink {
	s := graph.Sink{Name: texts.Draw(t, "name"), Parallelism: numbers.Draw(t, "parallelism"), From: rapid.SliceOfN(texts, 0, 3).Draw(t, "from"), KeyBy: texts.Draw(t, "keyBy")}
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 1:
		s.Print = &graph.PrintSink{}
	case 2:
		s.Kafka = &graph.KafkaSink{
			Topic: texts.Draw(t, "topic"), TopicExpression: texts.Draw(t, "topic expression"), Guarantee: graph.Guarantee("g" + texts.Draw(t, "guarantee")),
			Partitioner: graph.PartitionerMode("p" + texts.Draw(t, "partitioner")), PartitionerExpression: texts.Draw(t, "expression"),
			Properties: rapid.MapOfN(texts, texts, 0, 3).Draw(t, "properties"), TransactionalIDPrefix: texts.Draw(t, "prefix"),
		}
	}
	return s
}

func drawJob(t *rapid.T) *graph.Job {
	return &graph.Job{
		Name: texts.Draw(t, "job"), Parallelism: nonZero(numbers.Draw(t, "parallelism")), MaxParallelism: nonZero(numbers.Draw(t, "max")),
		Checkpoint: graph.Checkpointing{
			Interval: durations.Draw(t, "interval"), Timeout: durations.Draw(t, "timeout"), MinPause: durations.Draw(t, "pause"),
			Retain: nonZero(numbers.Draw(t, "retain")), TolerableFailures: numbers.Draw(t, "tolerable"),
		},
		Restart: graph.Restart{
			Strategy: graph.RestartStrategy("s" + texts.Draw(t, "strategy")), Initial: durations.Draw(t, "initial"), Max: durations.Draw(t, "max delay"),
			Attempts: numbers.Draw(t, "attempts"), HealthyAfter: durations.Draw(t, "healthy"),
		},
		Sources:   rapid.SliceOfN(rapid.Custom(drawSource), 0, 3).Draw(t, "sources"),
		Operators: rapid.SliceOfN(rapid.Custom(drawOperator), 0, 3).Draw(t, "operators"),
		Sinks:     rapid.SliceOfN(rapid.Custom(drawSink), 0, 3).Draw(t, "sinks"),
	}
}

// TestJobRoundTrip loses nothing of a job on its way through the bytes of the protocol.
func TestJobRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := drawJob(t)
		got, err := wire.JobFromProto(over(t, wire.JobToProto(job), &pb.Job{}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(job, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("want -, got +\n%s", diff)
		}
	})
}

// TestJobDefaults is what a client that leaves fields out gets: the same as an empty job with defaults.
func TestJobDefaults(t *testing.T) {
	got, err := wire.JobFromProto(&pb.Job{Sources: []*pb.Source{{Kafka: &pb.KafkaSource{}}}, Sinks: []*pb.Sink{{Kind: &pb.Sink_Kafka{Kafka: &pb.KafkaSink{}}}}})
	if err != nil {
		t.Fatal(err)
	}
	want := &graph.Job{Sources: []graph.Source{{Kafka: &graph.KafkaSource{}}}, Sinks: []graph.Sink{{Kafka: &graph.KafkaSink{}}}}
	want.SetDefaults()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

func TestJobWithoutTranslation(t *testing.T) {
	kafka := func(k *pb.KafkaSource) *pb.Job {
		return &pb.Job{Sources: []*pb.Source{{Name: "s", Kafka: k}}}
	}
	twice := []*pb.PartitionOffset{{Topic: "t", Partition: 1, Offset: 2}, {Topic: "t", Partition: 1, Offset: 3}}
	for name, test := range map[string]struct {
		job  *pb.Job
		want string
	}{
		"offset twice":        {kafka(&pb.KafkaSource{Startup: &pb.OffsetSpec{Offsets: twice}}), `source "s": startup: partition 1 of topic "t" is given twice`},
		"bound twice":         {kafka(&pb.KafkaSource{Bounded: &pb.OffsetSpec{Offsets: twice}}), `source "s": bounded: partition 1 of topic "t" is given twice`},
		"time beyond the end": {kafka(&pb.KafkaSource{Startup: &pb.OffsetSpec{Timestamp: &timestamppb.Timestamp{Seconds: 1 << 60}}}), `source "s": startup: `},
	} {
		if _, err := wire.JobFromProto(test.job); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}

// FuzzJobFromProto reads any bytes as a submitted job. Nothing panics, and a job that is found valid can be
// planned and survives another trip.
func FuzzJobFromProto(f *testing.F) {
	valid := &graph.Job{
		Name: "job", Parallelism: 2, Sources: []graph.Source{{Name: "s", Kafka: &graph.KafkaSource{Topics: []string{"t"}}}},
		Operators: []graph.Operator{{Name: "o", From: []string{"s"}, KeyBy: "key", Count: true}, {Name: "p", From: []string{"o"}, Filter: "value != null"}},
		Sinks:     []graph.Sink{{Name: "z", From: []string{"p"}, Print: &graph.PrintSink{}}},
	}
	valid.SetDefaults()
	for _, job := range []*pb.Job{{}, wire.JobToProto(valid), {Operators: []*pb.Operator{{Name: "a", From: []string{"a"}, Verb: &pb.Operator_Map{}}}}, {Parallelism: -1 << 31}} {
		data, err := proto.Marshal(job)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := &pb.Job{}
		if proto.Unmarshal(data, in) != nil {
			return
		}
		job, err := wire.JobFromProto(in)
		if err != nil {
			return
		}
		job.SetDefaults()
		if len(graph.Check(job, graph.Checks{Expressions: expression.Checker{}})) > 0 {
			return
		}
		if _, err := graph.Plan(job, expression.Checker{}); err != nil {
			t.Fatalf("a valid job cannot be planned: %v", err)
		}
		again, err := wire.JobFromProto(wire.JobToProto(job))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(job, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("want -, got +\n%s", diff)
		}
	})
}

// TestAckRoundTrip keeps everything of an ack; the age of a transaction counts from the clock of the receiver.
func TestAckRoundTrip(t *testing.T) {
	sent := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	received := sent.Add(42 * time.Hour) // the clocks of two machines differ
	ack := &manifest.Ack{
		Job: "j", Fence: ident.Fence{Epoch: 1 << 60, Attempt: 3}, Checkpoint: 9, Subtask: ident.Subtask{Vertex: "v", Index: 2},
		Positions: []manifest.Position{{Split: manifest.Split{Source: "v", Topic: "t", Partition: 5}, Next: 1 << 60, LeaderEpoch: -1, Stop: -1}},
		State: []manifest.State{
			{Operator: "o", Subtask: ident.Subtask{Vertex: "v", Index: 2}, FirstKeyGroup: 1, LastKeyGroup: 127, SizeBytes: 3, Inline: []byte("abc")},
			{Operator: "p", Subtask: ident.Subtask{Vertex: "v", Index: 2}, SizeBytes: 7, Blob: manifest.Blob{Name: "j/9-p-2-x", SizeBytes: 7, CRC32C: 1 << 31}},
		},
		Transactions: []manifest.Transaction{{
			Sink: "z", Subtask: 2, Cluster: "c", TransactionalID: "id", ProducerID: 1 << 50, ProducerEpoch: 32_000, TimeoutMs: 900_000,
			Partitions: []manifest.TopicPartition{{Topic: "t", Partition: 1, FirstOffset: -1, LastOffset: 5}}, StartedAt: sent.Add(-time.Minute),
		}},
	}
	got, err := wire.AckFromProto(over(t, wire.AckToProto(ack, sent), &pb.CheckpointAck{}), received)
	if err != nil {
		t.Fatal(err)
	}
	ack.Transactions[0].StartedAt = received.Add(-time.Minute)
	if diff := cmp.Diff(ack, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

// TestImpossibleAcks are refused; no correct task manager sends them.
func TestImpossibleAcks(t *testing.T) {
	position := &pb.SplitPosition{Topic: "t"}
	state := func(s *pb.StatePiece) *pb.CheckpointAck { return &pb.CheckpointAck{State: []*pb.StatePiece{s}} }
	tests := map[string]*pb.CheckpointAck{
		"negative offset":    {Positions: []*pb.SplitPosition{{Topic: "t", Next: -1}}},
		"negative partition": {Positions: []*pb.SplitPosition{position, {Topic: "t", Partition: -1}}},
		"no topic":           {Positions: []*pb.SplitPosition{{}}},
		"no state":           state(&pb.StatePiece{Operator: "o"}),
		"two kinds of state": state(&pb.StatePiece{SizeBytes: 1, Inline: []byte("a"), Blob: &pb.Blob{Name: "x", SizeBytes: 1}}),
		"size of inline":     state(&pb.StatePiece{SizeBytes: 2, Inline: []byte("a")}),
		"size of blob":       state(&pb.StatePiece{SizeBytes: 2, Blob: &pb.Blob{Name: "x", SizeBytes: 1}}),
		"negative size":      state(&pb.StatePiece{SizeBytes: -1, Blob: &pb.Blob{Name: "x", SizeBytes: -1}}),
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		if a, err := wire.AckFromProto(tests[name], time.Now()); err == nil {
			t.Errorf("%s: taken as %+v", name, a)
		}
	}
	if _, err := wire.AckFromProto(&pb.CheckpointAck{Positions: []*pb.SplitPosition{position}}, time.Now()); err != nil {
		t.Error(err)
	}
}
