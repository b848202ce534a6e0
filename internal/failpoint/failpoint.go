// Package failpoint names the places where the chaos suite crashes, fails or pauses a process, and the
// bugs that it can seed to prove that it would notice them. Without the build tag failpoints both Hit and
// Bug are constants that the compiler removes; no released binary can be told to fail.
package failpoint

// Point is a place: an arrow of the checkpoint picture in DESIGN section 6.
type Point string

// The points, in the order of a checkpoint's life.
const (
	Trigger         Point = "jm/trigger"              // before the trigger is sent
	Barrier         Point = "tm/barrier"              // before a source emits the barrier
	Snapshot        Point = "tm/snapshot"             // before the state is copied
	Seal            Point = "tm/seal"                 // before a sink seals
	Flushed         Point = "tm/flushed"              // all of a sealed transaction is answered
	SendAck         Point = "tm/send-ack"             // before the ack is handed to the session
	ReceiveAck      Point = "jm/receive-ack"          // before the coordinator sees the ack
	BeforePersist   Point = "jm/before-persist"       // the set of acks is complete
	BetweenWitness  Point = "jm/between-witness"      // bbolt is fsynced, the witness is not
	AfterPersist    Point = "jm/after-persist"        // both are
	BeforeCommit    Point = "jm/before-commit"        // before each EndTxn
	AfterCommit     Point = "jm/after-commit"         // after each EndTxn
	BeforeMark      Point = "jm/before-mark"          // before committed marks are written
	AfterMark       Point = "jm/after-mark"           // after they are
	BeforeAnnounce  Point = "jm/before-announce"      // before the sinks are told
	BeforePublish   Point = "jm/before-publish"       // before offsets are published
	AfterPublish    Point = "jm/after-publish"        // after they are
	BeforeRetention Point = "jm/before-retention"     // before old checkpoints are dropped
	AfterRetention  Point = "jm/after-retention"      // dropped in the database, the files are still there
	BeforeFence     Point = "jm/before-fence"         // before each InitProducerId of the job manager
	BeforeHandOut   Point = "jm/before-hand-out"      // before the count of ids handed out is written
	AfterHandOut    Point = "jm/after-hand-out"       // it is durable, the task manager does not know it yet
	BeforeInit      Point = "tm/before-init-producer" // before each InitProducerId of a sink
	AfterInit       Point = "tm/after-init-producer"  // after its answer
)

// SeededBug is a rule broken on purpose.
type SeededBug string

// The seeded bugs of reference 2.5 and of DESIGN section 6.
const (
	AckBeforeFlush        SeededBug = "ack-before-flush"
	CommitBeforeDurable   SeededBug = "commit-before-durable"
	RestorePrevious       SeededBug = "restore-previous"
	ReuseEpoch            SeededBug = "reuse-epoch"
	AcceptOldAck          SeededBug = "accept-old-attempt-ack"
	InitBeforeCommit      SeededBug = "init-producer-before-commit-on-restore"
	NextIsLastPlusOne     SeededBug = "next-is-last-plus-one"
	AbortedFilterOff      SeededBug = "aborted-filter-off"
	PartialDeploy         SeededBug = "partial-deploy"
	RestoreFromOffsets    SeededBug = "offsets-used-for-restore"
	AckOwnOnly            SeededBug = "ack-lists-only-its-own-transaction"
	AbortOnExpiry         SeededBug = "sealed-transaction-aborted-on-expiry"
	FenceDuringWrite      SeededBug = "fence-while-a-write-is-in-flight"
	AnnounceBeforeMark    SeededBug = "announce-before-the-mark-is-durable"
	ReuseBurntID          SeededBug = "burnt-id-reused"
	ShareIDs              SeededBug = "ids-shared-between-attempts"
	ExpireDuringWrite     SeededBug = "expiry-during-the-write"
	IgnoreOrderAcrossSeal SeededBug = "order-across-the-seal-ignored"
	ResolveLatestAnew     SeededBug = "latest-resolved-anew-per-attempt"
)
