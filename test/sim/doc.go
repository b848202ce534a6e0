// Package sim runs the cores of the job manager (jobs, checkpoints, slots, committer) and of the transactional
// sink (id pool and sealing, aligner) against simulated task managers, a simulated network, a simulated disk
// and a model of Kafka's transaction coordinator, in one goroutine per schedule and under a virtual clock. A
// seed decides everything: how long each message takes, what is lost, repeated or overtaken, who crashes or
// stands still when, what users ask for, and how likely each of these is.
//
// Kafka's part: producer ids and epochs (near their end in some schedules), timeouts by a scan each 10 s,
// markers that take a while, CONCURRENT_TRANSACTIONS meanwhile, sequence numbers, the LSO. A request may not
// be sent, be lost, be carried out after the client has given up, or twice; its answer may be lost. An
// InitProducerId is never repeated on the way, as our wire layer does not. Somebody else may take the ids.
//
// A schedule has three phases. In the first, faults happen and only safety is checked. Then the faults stop
// and every job must come to where its user wants it: run and commit a checkpoint, or end. Last, what still
// runs is canceled, everything on its way arrives, and the output is judged.
//
// Safety, checked all along:
//   - an attempt number of a job is deployed once, over all starts of the job manager;
//   - it is deployed from the newest durable checkpoint, and no checkpoint of an older attempt becomes
//     durable after that;
//   - an attempt that is given up is canceled on every worker that is not lost;
//   - checkpoint ids are triggered once and become durable in rising order;
//   - a checkpoint is written if and only if all subtasks of its attempt have acknowledged it, with the
//     positions that they really had at the barrier, and no transaction that may soon expire;
//   - a slot never runs subtasks of two attempts;
//   - after a durable final checkpoint, or a cancel that was answered, nothing is deployed;
//   - only what a durable checkpoint names is committed, and no InitProducerId of ours aborts such a
//     transaction or one that a checkpoint names later; no two checkpoints name the same;
//   - a checkpoint is announced once, in order, after the marks of its transactions are durable;
//   - when a job is in a terminal state, none of its subtasks can write, nothing of it is open at Kafka, and
//     every id is fenced for good.
//
// At the end: of each source, what the newest checkpoint covers is visible exactly once to a read_committed
// reader, in order in each partition, and nothing else is; LSO = high watermark. What expired, or was aborted
// by somebody else, after a checkpoint named it is missing, and exactly then the job is FAILED_DATA_LOSS.
//
// Not simulated: blobs, the witness beside the database, publication of offsets, clocks that drift.
//
// The package has tests only: go test ./test/sim, -schedules N for more of them, and -seed N to replay one
// with its transcript (-bug B for one with a mistake made on purpose). With the build tag failpoints, the bugs
// that the cores can be told to have are looked for as well.
package sim
