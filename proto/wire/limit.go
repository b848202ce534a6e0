package wire

// MaxReportBytes is the largest message that a job manager takes from a task manager: an ack has the positions and the
// transactions of all partitions of a subtask, 100 bytes or so each. The other way 1 MiB is the limit.
const MaxReportBytes = 8 << 20
