package oracle_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/chaos/workload"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// TestProduct runs the workloads as jobs of real processes on kfake, kills a task manager, the job manager, or
// both, and lets the oracle judge. It shows that the job files say what the models say.
func TestProduct(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	binaries, err := cluster.NewBinaries()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := binaries.Close(); err != nil {
			t.Error(err)
		}
	})
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	for _, kind := range []workload.Kind{workload.A, workload.B, workload.C, workload.D} {
		t.Run(string(kind), func(t *testing.T) { runProduct(t, cluster.New(t, binaries), kind, broker.ListenAddrs()) })
	}
}

func runProduct(t *testing.T, c *cluster.Cluster, kind workload.Kind, brokers []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	w, err := workload.New(kind, workload.Params{
		Name: "product-" + string(kind), Brokers: strings.Join(brokers, ","), CheckpointInterval: 500 * time.Millisecond,
		SourceProperties: map[string]string{"fetch.max.bytes": "67108864"}, // kfake: see maxFetchBytes
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.CreateTopics(ctx, brokers...); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "decisions.jsonl")
	c.StartJobManager(t, "--decision-log", log)
	c.StartTaskManager(t, "tm-1", w.Slots())
	c.StartTaskManager(t, "tm-2", w.Slots())
	job := c.Submit(t, w.JobFile())

	g, err := w.NewGenerator(workload.Load{Brokers: brokers, Seed: 1, LargeEvery: 500})
	if err != nil {
		t.Fatal(err)
	}
	o, err := oracle.Start(ctx, oracle.Config{Workload: w, Faults: []string{"F1"}, Brokers: brokers, Journal: g.Journal, Acknowledged: g.Acknowledged, DecisionLog: log, Job: job})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	loading, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(loading) }()
	first := c.WaitCheckpoint(t, job, 3, time.Minute)
	o.Note(oracle.Fault, time.Now())
	if kind != workload.A {
		c.Kill9(t, c.JobManager())
	}
	if kind != workload.B {
		c.Kill9(t, c.TaskManager(first.Vertices[0].Subtasks[0].TaskManager))
	}
	if kind != workload.A {
		c.StartJobManager(t, "--decision-log", log)
	}
	again := c.WaitFor(t, job, "restarted", time.Minute, func(j *cluster.Job) bool { return j.Attempt > first.Attempt && j.State == "RUNNING" })
	c.WaitCheckpoint(t, job, again.LatestID()+2, time.Minute)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	o.Note(oracle.LoadStopped, time.Now())
	ends := committedEnds(t, ctx, brokers, w)
	c.WaitFor(t, job, "at the end", time.Minute, func(j *cluster.Job) bool { return atEnds(j, ends) })
	c.MustSluice(t, "stop", job)
	c.WaitState(t, job, "STOPPED", time.Minute)
	report, err := o.Verify(ctx)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if !report.OK() || report.RecordsIn == 0 || report.DetectMs == nil || report.RedeployMs == nil || report.FirstOutputMs == nil || report.CheckpointsCompleted < 4 {
		t.Errorf("the run is not right, or was not measured")
	}
}

// committedEnds is "topic/partition" → the last stable offset.
func committedEnds(t *testing.T, ctx context.Context, brokers []string, w *workload.Workload) map[string]int64 {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	listed, err := kadm.NewClient(client).ListCommittedOffsets(ctx, w.In(), w.Compacted())
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[fmt.Sprintf("%s/%d", o.Topic, o.Partition)] = o.Offset })
	return ends
}

func atEnds(j *cluster.Job, ends map[string]int64) bool {
	if j.Checkpoints.Latest == nil || !j.Checkpoints.Latest.Committed {
		return false
	}
	at := map[string]int64{}
	for _, topics := range j.Checkpoints.Latest.Offsets {
		for topic, partitions := range topics {
			for partition, offset := range partitions {
				at[topic+"/"+partition] = offset
			}
		}
	}
	for partition, end := range ends {
		if at[partition] < end {
			return false
		}
	}
	return true
}
