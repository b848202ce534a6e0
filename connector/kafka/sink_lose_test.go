package kafka

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-stream/sluice/graph"
)

// TestSinkNoGuarantee: while brokers answer, nothing is lost at the end of a job, as a checkpoint waits for them.
func TestSinkNoGuarantee(t *testing.T) {
	t.Parallel()
	f := startFake(t, kfake.SeedTopics(1, "out"))
	w := startSink(t, &graph.KafkaSink{Topic: "out", Guarantee: graph.NoGuarantee, Properties: forSink(f)})
	acks := make(chan int16, 10)
	release := make(chan struct{})
	f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		acks <- req.(*kmsg.ProduceRequest).Acks
		f.DropControl()
		f.SleepControl(func() { <-release })
		return nil, nil, false
	})
	w.write(batchOf(numbered("in", 0, 5)...))
	w.seal(1)
	if got := <-acks; got != 1 {
		t.Errorf("acks %d", got)
	}
	select {
	case e := <-w.sink.Sealed():
		t.Errorf("%+v before the answer", e)
	default:
	}
	close(release)
	w.sealed(1)
	consume(t, f, "out", 5)
}

// TestSinkNoGuaranteeGoesOn: with the guarantee none, what a broker refuses, and what it does not take in time,
// is counted and told, and neither the job nor a checkpoint waits for it.
func TestSinkNoGuaranteeGoesOn(t *testing.T) {
	t.Parallel()
	for name, code := range map[string]int16{"refused": kerr.TopicAuthorizationFailed.Code, "not in time": kerr.NotEnoughReplicas.Code} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, kfake.SeedTopics(1, "out"))
			var log logText
			var lost atomic.Int64
			var well atomic.Bool
			f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				f.KeepControl()
				if well.Load() {
					return nil, nil, false
				}
				return produceError(req.(*kmsg.ProduceRequest), code), nil, true
			})
			k := &graph.KafkaSink{Topic: "out", Guarantee: graph.NoGuarantee, Properties: forSink(f, propDeliveryTimeout, "1000", propRequestTimeout, "1000")}
			w := startSink(t, k, func(c *SinkConfig) { c.Lost, c.Logger = &lost, slog.New(slog.NewTextHandler(&log, nil)) })
			w.write(batchOf(numbered("in", 0, 5)...))
			w.seal(1)
			w.sealed(1)
			tick, patience := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
			defer tick.Stop()
			for lost.Load() < 5 {
				select {
				case <-tick.C:
				case <-patience:
					t.Fatalf("%d records are lost, want 5; reasons %q", lost.Load(), w.reasons.said)
				}
			}
			well.Store(true)
			w.write(batchOf(&kgo.Record{Value: []byte("later")}))
			if got := consume(t, f, "out", 1); len(got) != 1 || string(got[0].Value) != "later" || lost.Load() != 5 {
				t.Errorf("output %v, %d lost", got, lost.Load())
			}
			if text := log.String(); !strings.Contains(text, "guarantee none") || !strings.Contains(text, "records=5") || !strings.Contains(text, "topic=out") {
				t.Errorf("log: %s", text)
			}
		})
	}
}

// logText is what was logged, by any goroutine.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
