package kafka

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/checkpoint/manifest"
	"github.com/sluice-stream/sluice/connector/kafka/wire"
	"github.com/sluice-stream/sluice/graph"
	"github.com/sluice-stream/sluice/ident"
)

func newAdmin(t testing.TB) *Admin {
	t.Helper()
	a := NewAdmin(nil)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// jobOf reads topics and writes to out.
func jobOf(f *kfake.Cluster, change func(*graph.KafkaSource)) *graph.Job {
	k := &graph.KafkaSource{Topics: []string{"in"}, Startup: graph.Startup{Mode: graph.StartEarliest}, Properties: properties(f)}
	change(k)
	job := &graph.Job{Name: "j", Sources: []graph.Source{{Name: "s", Kafka: k}},
		Sinks: []graph.Sink{{Name: "z", From: []string{"s"}, Kafka: &graph.KafkaSink{Topic: "out", Properties: forSink(f)}}}}
	job.SetDefaults()
	return job
}

func TestCheck(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in", "out", "in-2"))
	web := httptest.NewServer(nil)
	t.Cleanup(web.Close)
	tests := []struct {
		name   string
		change func(*graph.Job)
		want   []string // parts of the lines, in order; none: fine
	}{
		{"fine", func(*graph.Job) {}, nil},
		{"fine with a pattern", func(j *graph.Job) { j.Sources[0].Kafka.Topics, j.Sources[0].Kafka.TopicPattern = nil, "in.*" }, nil},
		{"no topics", func(j *graph.Job) {
			j.Sources[0].Kafka.Topics, j.Sinks[0].Kafka.Topic = []string{"in", "gone"}, "nowhere"
		}, []string{"source s: topic gone: it does not exist on 127.0.0.1", "sink z: topic nowhere: it does not exist on 127.0.0.1"}},
		{"nothing matches", func(j *graph.Job) { j.Sources[0].Kafka.Topics, j.Sources[0].Kafka.TopicPattern = nil, "n" },
			[]string{"source s: no topic on 127.0.0.1"}},
		{"no group", func(j *graph.Job) { j.Sources[0].Kafka.Startup.Mode = graph.StartCommitted },
			[]string{"source s: group.id: startup: committed needs it; add it, or set startup: earliest | latest"}},
		{"unreachable and not Kafka", func(j *graph.Job) {
			j.Sources[0].Kafka.Properties = map[string]string{propBootstrap: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
			j.Sinks[0].Kafka.Properties = map[string]string{propBootstrap: web.Listener.Addr().String()}
		}, []string{"source s: ApiVersions at 127.0.0.1:", "sink z: " + web.Listener.Addr().String() + ` does not speak Kafka`}},
		{"secret missing", func(j *graph.Job) {
			for k, v := range map[string]string{propSecurityProtocol: "SASL_PLAINTEXT", propMechanism: "PLAIN", propUsername: "u", propPassword: "${env:SLUICE_TEST_NONE}"} {
				j.Sources[0].Kafka.Properties[k] = v
			}
		}, []string{"source s: connect to 127.0.0.1"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			job := jobOf(f, func(*graph.KafkaSource) {})
			test.change(job)
			begin := time.Now()
			err := newAdmin(t).Check(testContext(t), job)
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("error %v", err)
			}
			if err == nil {
				return
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("%d lines, want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %q\nwant %q", lines[i], want)
				}
			}
		})
	}
}

// TestCheckLeaderless: a partition without a leader is waited for a little, then named.
func TestCheckLeaderless(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in", "out"))
	for _, times := range []int{3, 1 << 30} {
		n := 0
		f.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
			m := req.(*kmsg.MetadataRequest)
			f.KeepControl()
			if len(m.Topics) == 0 {
				return nil, nil, false
			}
			if n++; n > times {
				f.DropControl()
				return nil, nil, false
			}
			return leaderless(f, m), nil, true
		})
		err := newAdmin(t).Check(testContext(t), jobOf(f, func(*graph.KafkaSource) {}))
		switch {
		case times == 3 && err != nil:
			t.Error(err)
		case times > 3 && (err == nil || !strings.Contains(err.Error(), "source s: topic in: Metadata in/0 at") || !strings.Contains(err.Error(), "LEADER_NOT_AVAILABLE")):
			t.Errorf("error %v", err)
		}
	}
}

// TestStartOfANewTopic: a busy broker may hear of a topic some time after the one that was asked whether it exists.
// For a while it is asked again, and after that the job is refused.
func TestStartOfANewTopic(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in", "out"))
	for _, times := range []int{5, 1 << 30} {
		n := 0
		f.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
			f.KeepControl()
			if n++; n > times {
				f.DropControl()
				return nil, nil, false
			}
			return unknownTopics(req.(*kmsg.ListOffsetsRequest)), nil, true
		})
		positions, _, err := newAdmin(t).StartPositions(testContext(t), jobOf(f, func(k *graph.KafkaSource) { k.Startup.Mode = graph.StartEarliest }))
		switch {
		case times == 5 && (err != nil || len(positions) != 2):
			t.Errorf("%d positions, %v", len(positions), err)
		case times > 5 && !wire.HasCode(err, wire.CodeUnknownTopicOrPartition):
			t.Errorf("error %v", err)
		}
	}
}

// TestTimestampBetween: a record that comes while the start of a job is being resolved is read. At the first question
// for its time there is none that young; a moment later the log is longer.
func TestTimestampBetween(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "in", "out"))
	end := int64(5)
	f.ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		r := req.(*kmsg.ListOffsetsRequest)
		res := r.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, topic := range r.Topics {
			out := kmsg.NewListOffsetsResponseTopic()
			out.Topic = topic.Topic
			for _, p := range topic.Partitions {
				part := kmsg.NewListOffsetsResponseTopicPartition()
				part.Partition, part.Offset = p.Partition, end
				if p.Timestamp >= 0 {
					part.Offset, end = -1, 8 // and now three records come
				}
				out.Partitions = append(out.Partitions, part)
			}
			res.Topics = append(res.Topics, out)
		}
		return res, nil, true
	})
	positions, _, err := newAdmin(t).StartPositions(testContext(t), jobOf(f, func(k *graph.KafkaSource) {
		k.Startup = graph.Startup{Mode: graph.StartTimestamp, Timestamp: time.Now()}
	}))
	if err != nil || len(positions) != 1 || positions[0].Next != 5 {
		t.Errorf("positions %+v, %v; want offset 5, where the log ended before the question", positions, err)
	}
}

// unknownTopics is the answer of a broker that has heard of none of the topics.
func unknownTopics(req *kmsg.ListOffsetsRequest) kmsg.Response {
	res := req.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, topic := range req.Topics {
		out := kmsg.NewListOffsetsResponseTopic()
		out.Topic = topic.Topic
		for _, p := range topic.Partitions {
			part := kmsg.NewListOffsetsResponseTopicPartition()
			part.Partition, part.Offset, part.ErrorCode = p.Partition, -1, kerr.UnknownTopicOrPartition.Code
			out.Partitions = append(out.Partitions, part)
		}
		res.Topics = append(res.Topics, out)
	}
	return res
}

// startCase is a source and where it begins.
type startCase struct {
	name   string
	change func(*graph.KafkaSource)
	want   string // topic/partition next-stop…
	warn   string
	err    string
}

// startCases are about the logs that TestStartPositions makes.
func startCases() []startCase {
	at := func(ms int64) time.Time { return time.UnixMilli(1_700_000_000_000 + ms) }
	offsets := func(zero, one int64) map[string]map[int32]int64 {
		return map[string]map[int32]int64{"in": {0: zero, 1: one}}
	}
	group := func(k *graph.KafkaSource, pairs ...string) {
		k.Startup.Mode = graph.StartCommitted
		for i := 0; i < len(pairs); i += 2 {
			k.Properties[pairs[i]] = pairs[i+1]
		}
	}
	return []startCase{
		{"earliest", func(*graph.KafkaSource) {}, "in/0 2--1 in/1 0--1", "", ""},
		{"latest", func(k *graph.KafkaSource) { k.Startup.Mode = graph.StartLatest }, "in/0 10--1 in/1 4--1", "", ""},
		{"bounded", func(k *graph.KafkaSource) { k.Bounded.Mode = graph.BoundLatest }, "in/0 2-10 in/1 0-4", "", ""},
		{"open transaction", func(k *graph.KafkaSource) { k.Topics, k.Bounded.Mode = []string{"tx"}, graph.BoundLatest }, "tx/0 0-3", "", ""},
		{"open transaction, uncommitted", func(k *graph.KafkaSource) {
			k.Topics, k.Bounded.Mode = []string{"tx"}, graph.BoundLatest
			k.Properties[propIsolation] = "read_uncommitted"
		}, "tx/0 0-5", "", ""},
		{"pattern", func(k *graph.KafkaSource) { k.Topics, k.TopicPattern = nil, "in-?2?" }, "in/0 2--1 in/1 0--1 in-2/0 0--1 in-2/1 0--1", "", ""},
		{"times", func(k *graph.KafkaSource) {
			k.Startup = graph.Startup{Mode: graph.StartTimestamp, Timestamp: at(3)}
			k.Bounded = graph.Bound{Mode: graph.BoundTimestamp, Timestamp: at(8)}
		}, "in/0 3-8 in/1 3-4", "", ""},
		{"offsets", func(k *graph.KafkaSource) {
			k.Startup = graph.Startup{Mode: graph.StartOffsets, Offsets: map[string]map[int32]int64{"in": {0: 5}}}
			k.Bounded = graph.Bound{Mode: graph.BoundOffsets, Offsets: offsets(6, 0)}
		}, "in/0 5-6 in/1 0-0", "", ""},
		{"offset outside", func(k *graph.KafkaSource) {
			k.Startup = graph.Startup{Mode: graph.StartOffsets, Offsets: offsets(1, 0)}
		}, "", "", "source s: in/0: startup names offset 1, and the log has 2 to 10; name an offset within"},
		{"no such partition", func(k *graph.KafkaSource) {
			k.Startup = graph.Startup{Mode: graph.StartOffsets, Offsets: map[string]map[int32]int64{"in": {9: 0}}}
		}, "", "", "source s: in/9: startup names an offset for it, and the source does not read it"},
		{"bound missing", func(k *graph.KafkaSource) {
			k.Bounded = graph.Bound{Mode: graph.BoundOffsets, Offsets: map[string]map[int32]int64{"in": {0: 6}}}
		}, "", "", "source s: bounded names no offset for in/1; name one for every partition"},
		{"committed", func(k *graph.KafkaSource) { group(k, propGroup, "partly") }, "in/0 7--1 in/1 4--1",
			"source s: group partly has no committed offset for in/1: reading from latest, by the default of auto.offset.reset", ""},
		{"committed, earliest", func(k *graph.KafkaSource) { group(k, propGroup, "partly", propReset, "earliest") }, "in/0 7--1 in/1 0--1",
			"source s: group partly has no committed offset for in/1: reading from earliest, by auto.offset.reset", ""},
		{"committed, none", func(k *graph.KafkaSource) { group(k, propGroup, "partly", propReset, "none") }, "", "",
			"source s: group partly has no committed offset for in/1; set auto.offset.reset: earliest | latest, or another startup"},
		{"committed outside", func(k *graph.KafkaSource) { group(k, propGroup, "old") }, "", "",
			"source s: in/0: group old committed offset 1, and the log has 2 to 10 (1 partitions are like that); what is between is lost"},
		{"committed outside, earliest", func(k *graph.KafkaSource) { group(k, propGroup, "old", propReset, "earliest") }, "in/0 2--1 in/1 3--1",
			"source s: group old committed offsets outside of the log for in/0: reading from earliest, by auto.offset.reset", ""},
		{"no topic", func(k *graph.KafkaSource) { k.Topics = []string{"gone"} }, "", "", "source s: topic gone: it does not exist on 127.0.0.1"},
	}
}

func TestStartPositions(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in", "in-2", "other"), kfake.SeedTopics(1, "tx"))
	cl := franz(t, f)
	produce(t, cl, append(numbered("in", 0, 10), numbered("in", 1, 4)...)...) // timestamps …000 to …009
	deleteRecords(t, cl, "in", 2)
	commit(t, cl, "partly", map[int32]int64{0: 7})
	commit(t, cl, "old", map[int32]int64{0: 1, 1: 3})
	open := franz(t, f, kgo.TransactionalID("open"), kgo.DefaultProduceTopic("tx"))
	produce(t, cl, numbered("tx", 0, 3)...)
	if err := open.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, open, numbered("tx", 0, 2)...)
	for _, test := range startCases() {
		t.Run(test.name, func(t *testing.T) {
			positions, warnings, err := newAdmin(t).StartPositions(testContext(t), jobOf(f, test.change))
			if test.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range positions {
				if p.Source != "s" {
					t.Errorf("source %s", p.Source)
				}
				got = append(got, fmt.Sprintf("%s/%d %d-%d", p.Topic, p.Partition, p.Next, p.Stop))
			}
			if text := strings.Join(got, " "); text != test.want {
				t.Errorf("positions %s", text)
			}
			if text := strings.Join(warnings, "\n"); text != test.warn {
				t.Errorf("warnings %s", text)
			}
		})
	}
}

func commit(t testing.TB, cl *kgo.Client, group string, offsets map[int32]int64) {
	t.Helper()
	var all kadm.Offsets
	for p, o := range offsets {
		all.Add(kadm.Offset{Topic: "in", Partition: p, At: o, LeaderEpoch: -1})
	}
	if err := kadm.NewClient(cl).CommitAllOffsets(testContext(t), group, all); err != nil {
		t.Fatal(err)
	}
}

func TestPublishOffsets(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(2, "in", "out"))
	job := jobOf(f, func(k *graph.KafkaSource) { k.Properties[propGroup] = "g" })
	a := newAdmin(t)
	m := &manifest.Manifest{Job: "j1", Checkpoint: 41, Positions: []manifest.Position{position("in", 0, 7, -1), position("in", 1, 0, -1),
		{Split: manifest.Split{Source: "another", Topic: "in", Partition: 0}, Next: 99}}}
	f.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) { // the coordinator has moved
		r := req.(*kmsg.OffsetCommitRequest)
		res := r.ResponseKind().(*kmsg.OffsetCommitResponse)
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic = "in"
		rp := kmsg.NewOffsetCommitResponseTopicPartition()
		rp.ErrorCode = kerr.NotCoordinator.Code
		rt.Partitions = append(rt.Partitions, rp)
		res.Topics = append(res.Topics, rt)
		return res, nil, true
	})
	if err := a.PublishOffsets(testContext(t), job, job.Publications()[0], m); err != nil {
		t.Fatal(err)
	}
	found, err := kadm.NewClient(franz(t, f)).FetchOffsets(testContext(t), "g")
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[int32]int64{0: 7, 1: 0} {
		if o, ok := found.Lookup("in", p); !ok || o.At != want || o.Metadata != "sluice:j1:41" {
			t.Errorf("partition %d: %+v", p, o)
		}
	}
	for id, want := range map[string]struct {
		highest int
		found   bool
	}{"j1": {41, true}, "j2": {0, false}} {
		highest, found, err := a.ReadCommitted(testContext(t), job, ident.JobID(id), m.Positions)
		if int(highest) != want.highest || found != want.found || err != nil {
			t.Errorf("%s: %d, %v, %v", id, highest, found, err)
		}
	}
	t.Run("only where it is wanted", func(t *testing.T) {
		for _, change := range []func(*graph.KafkaSource){
			func(k *graph.KafkaSource) { k.Offsets = graph.OffsetsNone },
			func(k *graph.KafkaSource) { delete(k.Properties, propGroup) },
		} {
			job := jobOf(f, func(k *graph.KafkaSource) { k.Properties[propGroup] = "g2"; change(k) })
			if places := job.Publications(); len(places) > 0 {
				t.Errorf("published at %v", places)
			}
		}
	})
	t.Run("group in use", func(t *testing.T) {
		consumer := franz(t, f, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("in"))
		waitFor(t, func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			consumer.PollFetches(ctx)
			member, generation := consumer.GroupMetadata()
			return member != "" && generation > 0
		}, "member")
		err := a.PublishOffsets(testContext(t), job, job.Publications()[0], m)
		if err == nil || !strings.HasPrefix(err.Error(), "publish the offsets of source s: OffsetCommit in/0 at ") || !strings.Contains(err.Error(), "use a group.id that no consumer uses") {
			t.Errorf("error %v", err)
		}
	})
}

// TestPublishWithoutGoneTopics: a topic that went does not keep the offsets of the others from counting as published.
func TestPublishWithoutGoneTopics(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		there   []string // beside "in"
		unknown []string // by the answer to the commit
		code    int16
		fails   bool
	}{
		{"all there", []string{"old"}, nil, 0, false},
		{"one went", nil, []string{"old"}, kerr.UnknownTopicOrPartition.Code, false},
		{"the coordinator does not know it yet", []string{"old"}, []string{"old"}, kerr.UnknownTopicOrPartition.Code, true},
		{"another fault", nil, []string{"old"}, kerr.TopicAuthorizationFailed.Code, true},
		{"all went", nil, []string{"in", "old"}, kerr.UnknownTopicOrPartition.Code, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := startFake(t, kfake.SeedTopics(1, append(test.there, "in")...))
			f.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
				f.KeepControl()
				r := req.(*kmsg.OffsetCommitRequest)
				res := r.ResponseKind().(*kmsg.OffsetCommitResponse)
				for _, topic := range r.Topics {
					rt := kmsg.NewOffsetCommitResponseTopic()
					rt.Topic = topic.Topic
					rp := kmsg.NewOffsetCommitResponseTopicPartition()
					if slices.Contains(test.unknown, topic.Topic) {
						rp.ErrorCode = test.code
					}
					rt.Partitions = append(rt.Partitions, rp)
					res.Topics = append(res.Topics, rt)
				}
				return res, nil, true
			})
			job := jobOf(f, func(k *graph.KafkaSource) {
				k.Properties[propGroup], k.Properties[propRetryBackoff] = "g", "1"
			})
			m := &manifest.Manifest{Job: "j1", Checkpoint: 41, Positions: []manifest.Position{position("in", 0, 7, -1), position("old", 0, 9, -1)}}
			if err := newAdmin(t).PublishOffsets(testContext(t), job, job.Publications()[0], m); (err != nil) != test.fails {
				t.Errorf("error %v, want one: %v", err, test.fails)
			}
		})
	}
}

// TestConnections: the same properties share, others do not, and the last user closes.
func TestConnections(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	c := NewConnections(nil)
	resolve := func(pairs ...string) *Config {
		cfg, err := Resolve(graph.KindSource, properties(f, pairs...))
		if err != nil {
			t.Fatal(err)
		}
		return &cfg
	}
	acquire := func(cfg *Config) (*wire.Cluster, func()) {
		cluster, release, err := c.acquire(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return cluster, release
	}
	one, releaseOne := acquire(resolve())
	two, releaseTwo := acquire(resolve(propGroup, "g", propFetchMinBytes, "7"))
	other, _ := acquire(resolve(propClientID, "me"))
	if one != two || one == other {
		t.Errorf("%p %p %p", one, two, other)
	}
	releaseOne()
	releaseOne()
	if _, err := two.Metadata(testContext(t), nil); err != nil {
		t.Errorf("the first user's release closed it: %v", err)
	}
	releaseTwo()
	if _, err := two.Metadata(testContext(t), nil); err == nil {
		t.Error("it is open without users")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := other.Metadata(testContext(t), nil); err == nil {
		t.Error("it is open after Close")
	}
	if _, _, err := c.acquire(resolve()); !errors.Is(err, errConnectionsClosed) {
		t.Errorf("error %v", err)
	}
}
