// Package subtask runs one subtask: one goroutine owns its chain of operators, the positions of its
// source and the alignment of its barriers. Sources, sinks and the exchange run beside it and only feed
// it.
//
// What holds
//   - A position moves when the whole chain has taken the batch before it, so a checkpoint never names
//     a record that is not in its state or behind its barrier.
//   - No subtask ends before its job: at the end of its data it goes on forwarding barriers until its
//     context ends.
//   - Trigger, Abort and Completed never wait; repeats and late ones change nothing.
package subtask
