package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/sluice-stream/sluice/test/chaos/oracle"
	"github.com/sluice-stream/sluice/test/integration/cluster"
)

// offsetsOf are the positions of a checkpoint, of all sources together.
func offsetsOf(checkpoint *cluster.Checkpoint) (oracle.Offsets, error) {
	all := oracle.Offsets{}
	for _, topics := range checkpoint.Offsets {
		for topic, partitions := range topics {
			all[topic] = map[int32]int64{}
			for partition, at := range partitions {
				number, err := strconv.ParseInt(partition, 10, 32)
				if err != nil {
					return nil, fmt.Errorf("checkpoint %d covers partition %q of topic %s", checkpoint.ID, partition, topic)
				}
				all[topic][int32(number)] = at
			}
		}
	}
	return all, nil
}

// covers tells the oracle how far a job came that ended in the middle. It has to have committed what its newest
// completed checkpoint covers, unless it announces a loss.
func (st *stage) covers(job *cluster.Job) []string {
	if job.Checkpoints.Latest == nil {
		return []string{"state: the job ended without any completed checkpoint"}
	}
	covered, err := offsetsOf(job.Checkpoints.Latest)
	if err != nil {
		return []string{"state: " + err.Error()}
	}
	st.oracle.Covered(covered)
	return nil
}

// published is where the job publishes its offsets; those in ZooKeeper are for the faults of it to look at.
func (st *stage) published() oracle.Published {
	params := st.work.Params()
	if params.OffsetStorage != "kafka" {
		return oracle.Published{}
	}
	return oracle.Published{Group: params.Name, Completed: func(ctx context.Context) (oracle.Offsets, error) {
		job, err := st.rig.Job(ctx, st.job)
		if err != nil {
			return nil, err
		}
		if job.Checkpoints.Latest == nil {
			return nil, errors.New("the job has no checkpoint yet")
		}
		return offsetsOf(job.Checkpoints.Latest)
	}}
}
