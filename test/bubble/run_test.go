package bubble

import (
	"testing"
	"time"
)

func TestBoundedJobFinishes(t *testing.T) {
	Run(t, func(c *Cluster) {
		c.StartTaskManager("tm-1", 2)
		c.StartTaskManager("tm-2", 2)
		job := c.BoundedCountJob("count", 4)
		c.Log.Fill("in", 4000, 50)
		job = c.BoundedCountJob("count", 4)
		c.Submit(job)
		c.AwaitState(time.Minute, "count", "FINISHED")
		c.CheckCounts()
	})
}
