package wire

// Kafka's error codes that callers decide on; the others are in the table only.
const (
	CodeUnknownServerError         int16 = -1
	CodeNone                       int16 = 0
	CodeOffsetOutOfRange           int16 = 1
	CodeCorruptMessage             int16 = 2
	CodeUnknownTopicOrPartition    int16 = 3
	CodeLeaderNotAvailable         int16 = 5
	CodeNotLeader                  int16 = 6
	CodeRequestTimedOut            int16 = 7
	CodeBrokerNotAvailable         int16 = 8
	CodeMessageTooLarge            int16 = 10
	CodeCoordinatorLoadInProgress  int16 = 14
	CodeCoordinatorNotAvailable    int16 = 15
	CodeNotCoordinator             int16 = 16
	CodeRecordListTooLarge         int16 = 18
	CodeNotEnoughReplicas          int16 = 19
	CodeNotEnoughReplicasAppended  int16 = 20
	CodeTopicAuthorizationFailed   int16 = 29
	CodeGroupAuthorizationFailed   int16 = 30
	CodeClusterAuthorizationFailed int16 = 31
	CodeUnsupportedSaslMechanism   int16 = 33
	CodeUnsupportedVersion         int16 = 35
	CodeInvalidRequest             int16 = 42
	CodeOutOfOrderSequence         int16 = 45
	CodeDuplicateSequence          int16 = 46
	CodeUnsupportedForFormat       int16 = 43
	CodeInvalidProducerEpoch       int16 = 47
	CodeInvalidTxnState            int16 = 48
	CodeInvalidProducerIDMapping   int16 = 49
	CodeInvalidTransactionTimeout  int16 = 50
	CodeConcurrentTransactions     int16 = 51
	CodeTransactionalIDAuth        int16 = 53
	CodeSaslAuthenticationFailed   int16 = 58
	CodeUnknownProducerID          int16 = 59
	CodeGroupIDNotFound            int16 = 69
	CodeFencedLeaderEpoch          int16 = 74
	CodeUnknownLeaderEpoch         int16 = 75
	CodeUnsupportedCompression     int16 = 76
	CodeInvalidRecord              int16 = 87
	CodeProducerFenced             int16 = 90
	CodeUnknownTopicID             int16 = 100
)

// CodeName is Kafka's name of an error code.
func CodeName(code int16) string { return codeInfo(code).name }

type code struct {
	name    string
	class   Class
	meaning string
}

func codeInfo(c int16) code {
	if info, ok := codeTable[c]; ok {
		return info
	}
	return code{"UNKNOWN_ERROR_CODE", ClassFatal, "this version of Sluice does not know the code"}
}

// codeTable is Kafka's list of protocol errors, with the class that Kafka's own clients give them
// (RetriableException, InvalidMetadataException) save for what DESIGN 6 decides otherwise.
var codeTable = map[int16]code{
	-1: {"UNKNOWN_SERVER_ERROR", ClassFatal, "the broker failed without a reason; see its log"},
	0:  {"NONE", ClassNone, "no error"},
	1:  {"OFFSET_OUT_OF_RANGE", ClassFatal, "the offset is not in the log: deleted by retention, or the log was truncated or recreated"},
	2:  {"CORRUPT_MESSAGE", ClassRetry, "the batch did not pass the broker's checksum"},
	3:  {"UNKNOWN_TOPIC_OR_PARTITION", ClassRefresh, "this broker does not host the partition, or the topic does not exist"},
	4:  {"INVALID_FETCH_SIZE", ClassFatal, "the fetch size is not valid"},
	5:  {"LEADER_NOT_AVAILABLE", ClassRefresh, "the partition has no leader at the moment"},
	6:  {"NOT_LEADER_OR_FOLLOWER", ClassRefresh, "the partition's leader is another broker"},
	7:  {"REQUEST_TIMED_OUT", ClassRetry, "the brokers did not agree in time; the outcome is unknown"},
	8:  {"BROKER_NOT_AVAILABLE", ClassRefresh, "the broker is not part of the cluster at the moment"},
	9:  {"REPLICA_NOT_AVAILABLE", ClassRefresh, "the replica is not there yet"},
	10: {"MESSAGE_TOO_LARGE", ClassFatal, "the batch is larger than the topic's max.message.bytes"},
	11: {"STALE_CONTROLLER_EPOCH", ClassFatal, "the controller changed"},
	12: {"OFFSET_METADATA_TOO_LARGE", ClassFatal, "the offset's metadata string is too long"},
	13: {"NETWORK_EXCEPTION", ClassRefresh, "the broker lost a connection"},
	14: {"COORDINATOR_LOAD_IN_PROGRESS", ClassRetry, "the coordinator is loading its state"},
	15: {"COORDINATOR_NOT_AVAILABLE", ClassCoordinator, "there is no coordinator at the moment"},
	16: {"NOT_COORDINATOR", ClassCoordinator, "the coordinator is another broker"},
	17: {"INVALID_TOPIC_EXCEPTION", ClassFatal, "the topic name is not valid"},
	18: {"RECORD_LIST_TOO_LARGE", ClassFatal, "the batch is larger than a segment of the topic"},
	19: {"NOT_ENOUGH_REPLICAS", ClassRetry, "fewer replicas in sync than min.insync.replicas"},
	20: {"NOT_ENOUGH_REPLICAS_AFTER_APPEND", ClassRetry, "written, but fewer replicas in sync than min.insync.replicas"},
	21: {"INVALID_REQUIRED_ACKS", ClassFatal, "acks is not -1, 0 or 1"},
	22: {"ILLEGAL_GENERATION", ClassFatal, "the group has members of its own: use a group.id that no consumer uses"},
	23: {"INCONSISTENT_GROUP_PROTOCOL", ClassFatal, "the group is used by another kind of client"},
	24: {"INVALID_GROUP_ID", ClassFatal, "the group.id is not valid"},
	25: {"UNKNOWN_MEMBER_ID", ClassFatal, "the group has members of its own: use a group.id that no consumer uses"},
	26: {"INVALID_SESSION_TIMEOUT", ClassFatal, "the session timeout is not allowed by the broker"},
	27: {"REBALANCE_IN_PROGRESS", ClassRetry, "the group has members and is rebalancing"},
	28: {"INVALID_COMMIT_OFFSET_SIZE", ClassFatal, "the offset commit is too large"},
	29: {"TOPIC_AUTHORIZATION_FAILED", ClassFatal, "no permission for the topic: grant READ (source) or WRITE (sink), and DESCRIBE"},
	30: {"GROUP_AUTHORIZATION_FAILED", ClassFatal, "no permission for the group: grant READ on the group.id"},
	31: {"CLUSTER_AUTHORIZATION_FAILED", ClassFatal, "no permission for the cluster: grant IDEMPOTENT_WRITE, or WRITE on the topic"},
	32: {"INVALID_TIMESTAMP", ClassFatal, "a timestamp is outside of what the topic allows (message.timestamp.*.max.ms)"},
	33: {"UNSUPPORTED_SASL_MECHANISM", ClassFatal, "the broker does not offer this sasl.mechanism"},
	34: {"ILLEGAL_SASL_STATE", ClassFatal, "the broker did not expect SASL now: check security.protocol"},
	35: {"UNSUPPORTED_VERSION", ClassFatal, "the broker does not support the version of the call"},
	36: {"TOPIC_ALREADY_EXISTS", ClassFatal, "the topic exists"},
	37: {"INVALID_PARTITIONS", ClassFatal, "the number of partitions is not valid"},
	38: {"INVALID_REPLICATION_FACTOR", ClassFatal, "the replication factor is not possible"},
	40: {"INVALID_CONFIG", ClassFatal, "a setting is not valid"},
	41: {"NOT_CONTROLLER", ClassRefresh, "the controller is another broker"},
	42: {"INVALID_REQUEST", ClassFatal, "the broker does not accept the request"},
	43: {"UNSUPPORTED_FOR_MESSAGE_FORMAT", ClassFatal, "the topic's message format is too old"},
	44: {"POLICY_VIOLATION", ClassFatal, "a policy of the cluster forbids it"},
	45: {"OUT_OF_ORDER_SEQUENCE_NUMBER", ClassFatal, "a batch of this producer is missing before this one"},
	46: {"DUPLICATE_SEQUENCE_NUMBER", ClassFatal, "the batch was written before"},
	47: {"INVALID_PRODUCER_EPOCH", ClassFatal, "a newer producer took over the transactional id, or the transaction expired"},
	48: {"INVALID_TXN_STATE", ClassFatal, "the transaction is not in a state that allows this"},
	49: {"INVALID_PRODUCER_ID_MAPPING", ClassFatal, "the producer id does not belong to the transactional id (forgotten by the broker, or used elsewhere)"},
	50: {"INVALID_TRANSACTION_TIMEOUT", ClassFatal, "transaction.timeout.ms is above the broker's transaction.max.timeout.ms"},
	51: {"CONCURRENT_TRANSACTIONS", ClassRetry, "the transaction before is still being completed"},
	52: {"TRANSACTION_COORDINATOR_FENCED", ClassFatal, "the transaction coordinator was replaced"},
	53: {"TRANSACTIONAL_ID_AUTHORIZATION_FAILED", ClassFatal, "no permission for the transactional id: grant WRITE and DESCRIBE on it or its prefix"},
	54: {"SECURITY_DISABLED", ClassFatal, "the broker has no authorization configured"},
	55: {"OPERATION_NOT_ATTEMPTED", ClassRetry, "not attempted, because another part of the request failed"},
	56: {"KAFKA_STORAGE_ERROR", ClassRefresh, "the broker's disk failed"},
	57: {"LOG_DIR_NOT_FOUND", ClassFatal, "the broker's log directory does not exist"},
	58: {"SASL_AUTHENTICATION_FAILED", ClassFatal, "user or password is wrong: check sasl.username and sasl.password"},
	59: {"UNKNOWN_PRODUCER_ID", ClassFatal, "the broker forgot the producer (its records were deleted by retention)"},
	60: {"REASSIGNMENT_IN_PROGRESS", ClassRetry, "partitions are being moved"},
	69: {"GROUP_ID_NOT_FOUND", ClassFatal, "the group does not exist"},
	70: {"FETCH_SESSION_ID_NOT_FOUND", ClassRetry, "the broker forgot the fetch session"},
	71: {"INVALID_FETCH_SESSION_EPOCH", ClassRetry, "the fetch session's epoch is wrong"},
	72: {"LISTENER_NOT_FOUND", ClassRefresh, "the leader has no listener of this kind"},
	74: {"FENCED_LEADER_EPOCH", ClassRefresh, "the leader epoch is old: the leader changed"},
	75: {"UNKNOWN_LEADER_EPOCH", ClassRefresh, "the broker does not know the leader epoch yet"},
	76: {"UNSUPPORTED_COMPRESSION_TYPE", ClassFatal, "the broker is too old for this compression.type (zstd needs 2.1)"},
	77: {"STALE_BROKER_EPOCH", ClassFatal, "the broker was restarted"},
	78: {"OFFSET_NOT_AVAILABLE", ClassRetry, "the new leader does not know its high watermark yet"},
	79: {"MEMBER_ID_REQUIRED", ClassFatal, "the group needs a member id"},
	80: {"PREFERRED_LEADER_NOT_AVAILABLE", ClassRefresh, "the preferred leader is not there"},
	81: {"GROUP_MAX_SIZE_REACHED", ClassFatal, "the group is full"},
	82: {"FENCED_INSTANCE_ID", ClassFatal, "the group member was replaced"},
	87: {"INVALID_RECORD", ClassFatal, "the broker does not accept a record (a compacted topic needs keys)"},
	88: {"UNSTABLE_OFFSET_COMMIT", ClassRetry, "an open transaction holds offsets of the group"},
	89: {"THROTTLING_QUOTA_EXCEEDED", ClassRetry, "the quota is used up"},
	90: {"PRODUCER_FENCED", ClassFatal, "a newer producer took over the transactional id, or the transaction expired"},
	91: {"RESOURCE_NOT_FOUND", ClassFatal, "it does not exist"},
	94: {"INCONSISTENT_VOTER_SET", ClassFatal, "the controllers disagree"},

	100: {"UNKNOWN_TOPIC_ID", ClassRefresh, "the topic was deleted or recreated"},
	103: {"INCONSISTENT_TOPIC_ID", ClassRefresh, "the topic was recreated"},
	120: {"TRANSACTION_ABORTABLE", ClassFatal, "the transaction has to be aborted"},
}
