package bubble

import (
	"testing"
	"time"

	"github.com/sluice-stream/sluice/graph"
)

// TestTopicsThatAreNotListed has a topic missing from listings for so long that its positions are set aside, though it is
// there. They leave the checkpoints, of the attempt that runs and of those after; when the topic is listed again every
// record of it is counted once, whatever was lost meanwhile.
func TestTopicsThatAreNotListed(t *testing.T) {
	aside := func(c *Cluster) {
		c.Await(2*time.Hour, "nothing of it is in the checkpoints", func() bool { return c.Job("count").Checkpoints.Latest != nil && c.positions("count") == 0 })
	}
	tests := []struct {
		name    string
		happen  func(c *Cluster)
		attempt uint64
	}{
		{"nothing is lost", func(*Cluster) {}, 1},
		{"a task manager is lost, then the job manager", func(c *Cluster) {
			c.KillTaskManager("tm-2")
			c.StartTaskManager("tm-2", 2)
			c.AwaitState(time.Minute, "count", "RUNNING")
			aside(c)
			c.CrashJobManager()
			c.StartJobManager()
			c.AwaitState(time.Minute, "count", "RUNNING")
			aside(c)
		}, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Run(t, func(c *Cluster) {
				c.Submit(ofPattern(c, 2000))
				c.awaitAll(time.Minute)
				c.Admin.HideTopics(true)
				aside(c)
				if n := c.Logged("its position is set aside"); n != 4 {
					t.Errorf("%d positions were set aside", n)
				}
				test.happen(c)
				told := func() bool {
					w := c.Job("count").Waiting
					return len(w) == 1 && w[0] == "source in: no topic matches its pattern, or may be seen: it reads nothing until one does"
				}
				c.Await(time.Minute, "it is told that nothing is read", told)
				c.Log.Fill("in", 1000, 100)
				time.Sleep(5 * time.Minute)
				if n := len(c.Log.All("out")); n != 2000 {
					t.Errorf("%d records are counted", n)
				}
				c.Admin.Retain(500) // who takes it for a new topic begins elsewhere
				c.Admin.HideTopics(false)
				c.awaitAll(5 * time.Minute)
				c.Await(5*time.Minute, "all of it is in the checkpoints", func() bool { return c.positions("count") == 4 })
				if j := c.Job("count"); j.Attempt != test.attempt {
					t.Errorf("attempt %d, want %d", j.Attempt, test.attempt)
				}
				c.Cancel("count")
				c.AwaitState(time.Minute, "count", "CANCELED")
			})
		})
	}
}

// ofPattern is endless, by a pattern, with a search for partitions and a checkpoint each minute.
func ofPattern(c *Cluster, records int) *graph.Job {
	job := endless(c, records)
	job.Sources[0].Kafka.Topics, job.Sources[0].Kafka.TopicPattern = nil, "in"
	job.Checkpoint.Interval = 30 * time.Second
	c.Admin.Discovery = time.Minute
	return job
}

// TestTopicsThatAreReadThoughNotListed has records come from a topic that listings miss: the subtasks keep what they have
// read further than the job manager knows, and nothing is counted twice after a loss.
func TestTopicsThatAreReadThoughNotListed(t *testing.T) {
	if testing.Short() {
		t.Skip("it lasts an hour in the bubble")
	}
	Run(t, func(c *Cluster) {
		c.Submit(ofPattern(c, 2000))
		c.awaitAll(time.Minute)
		c.Admin.HideTopics(true)
		time.Sleep(58 * time.Minute)
		for c.Logged("its position is set aside") == 0 { // between two checkpoints
			c.Log.Fill("in", 100, 100)
			time.Sleep(500 * time.Millisecond)
		}
		c.awaitAll(5 * time.Minute)
		time.Sleep(time.Minute)
		if n := c.positions("count"); n != 4 {
			t.Errorf("the checkpoints hold %d positions of 4 that are read", n)
		}
		c.KillTaskManager("tm-2")
		c.StartTaskManager("tm-2", 2)
		c.Log.Fill("in", 500, 100)
		c.awaitAll(5 * time.Minute)
		c.Admin.Retain(500)
		c.Admin.HideTopics(false)
		c.Log.Fill("in", 500, 100)
		c.awaitAll(5 * time.Minute)
		c.Cancel("count")
		c.AwaitState(time.Minute, "count", "CANCELED")
	})
}
