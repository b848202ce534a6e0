// Package job is the state machine of one job: when it asks for slots, deploys, draws its last checkpoint,
// restarts, ends. It is pure; the shell in package jobmanager does what the effects say, in order, and
// brings the outcomes back as events.
//
// What holds at any time (DESIGN sections 4 to 6):
//   - Persist stands before whatever depends on it: the number of an attempt is durable before the attempt
//     is deployed, an intent before it is acted upon, a terminal state only after the clean-up.
//   - Attempt numbers only rise; at most one attempt is current. Given-up attempts are remembered until
//     every subtask of theirs has certainly ended, because their slots are held until then.
//   - After a given-up attempt nothing is deployed before the checkpoint coordinator has settled: the next
//     attempt must restore what is being written.
//   - After a final checkpoint the job never deploys again.
//
// What costs restart budget: a failure of a running attempt, whatever its cause. A lost task manager
// counts only if the attempt had not completed a checkpoint yet, because a job can itself be what kills its
// task managers (out of memory) and must not do so for ever without coming further; after a checkpoint a loss
// costs nothing and the job restarts as the first time. Free of charge are also waiting for slots, a
// deployment that did not come to run (unless a subtask failed in it for a reason of the user's or of ours),
// and starts of the job manager.
//
// What stop means when the job does not run: stop promises a last checkpoint after which nothing is
// emitted, so a job that has run before waits for slots, runs, and draws it; cancel ends it at once at its
// newest completed checkpoint. A job that never ran stops at its start offsets.
package job
