// Package sim runs the cores of the job manager (jobs, checkpoints, slots) against simulated task managers,
// a simulated network and a simulated disk, in one goroutine per schedule and under a virtual clock. A seed
// decides everything: how long each message takes, what is lost, repeated or overtaken, who crashes when,
// what users ask for, and how likely each of these is.
//
// A schedule has two phases. In the first, faults happen and only safety is checked. Then the faults stop
// and every job must come to where its user wants it: run and complete a checkpoint, or end.
//
// Safety, checked all along:
//   - an attempt number of a job is deployed once, over all starts of the job manager;
//   - it is deployed from the newest durable checkpoint, and no checkpoint of an older attempt becomes
//     durable after that;
//   - an attempt that is given up is canceled on every worker that is not lost;
//   - checkpoint ids are triggered once and become durable in rising order;
//   - a checkpoint is written if and only if all subtasks of its attempt have acknowledged it, with the
//     positions that they really had at the barrier;
//   - a slot never runs subtasks of two attempts;
//   - after a durable final checkpoint, or a cancel that was answered, nothing is deployed;
//   - when a job is in a terminal state, none of its subtasks can write.
//
// The package has tests only: go test ./test/sim, and -seed N to replay one schedule with its transcript.
package sim
