// Package discovery decides when the partitions of a job's sources are looked for while an attempt runs, and what
// comes of what is found. It is pure; package jobmanager performs the effects and brings the outcomes back as
// events.
//
// What holds at any time (DESIGN section 7):
//   - A split that is found is stored, with where it begins, before it is given to a subtask: Store stands before
//     Add, and only Stored makes the core emit Add. An attempt is deployed from the newest manifest and from what
//     is stored and does not stand in it. So a split that no checkpoint holds yet begins anew where it was stored,
//     and nothing of it is lost or, as the output of the old attempt is not visible, written twice.
//   - What is stored once is not moved by what is found: the offset of Stored counts, not that of Listed, for an earlier
//     attempt may have stored the split first.
//   - A split is given to one subtask of an attempt. What belongs to another attempt than the one that runs is
//     dropped: the next attempt looks for itself as soon as it runs.
//   - A listing that fails is repeated and never fails the job. A topic that is gone is told and, if it comes
//     back as another one, fails the attempt: the offsets are not of that topic.
//   - A split whose topic does not come back for long is set aside, if its source has a pattern: it leaves checkpoints
//     and deployments, and where it stood stays stored. No listing proves that a topic is deleted, so nothing depends on
//     that: if the same topic is listed again, it goes on from there, and one of another id begins as any new one.
//     SetAside stands before Remove, and a split that was removed in an attempt goes back to the same subtask in it,
//     which may have kept it.
package discovery
