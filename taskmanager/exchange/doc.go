// Package exchange moves batches, barriers and ends of data between the subtasks of one attempt: within a
// task manager through bounded queues, between task managers over one gRPC stream per pair and attempt.
//
// What holds
//   - A channel is (edge, sending subtask, receiving subtask). On a channel nothing is lost, repeated or
//     reordered as long as the attempt lives; whatever breaks that ends the attempt with a PeerError.
//   - Every channel has a credit in bytes, granted by its receiver. A batch leaves only while the credit
//     is above zero (one batch may overdraw it), so all queues are bounded and a blocked channel never
//     blocks its neighbours. Barriers and ends need no credit.
//   - A batch has one owner: the open batch of an Output, then the queue, then the receiving subtask
//     until Inputs.Release.
//
// The package knows nothing of alignment or checkpoints; that is package subtask.
package exchange
