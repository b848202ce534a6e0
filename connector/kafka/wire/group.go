package wire

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
	"github.com/segmentio/kafka-go/protocol/syncgroup"
)

// The answers by which a coordinator steers the members of a group.
const (
	CodeIllegalGeneration     int16 = 22
	CodeInconsistentProtocol  int16 = 23
	CodeUnknownMemberID       int16 = 25
	CodeInvalidSessionTimeout int16 = 26
	CodeRebalanceInProgress   int16 = 27
	CodeMemberIDRequired      int16 = 79
)

// The newest versions that kafka-go encodes as Kafka does: in newer answers to Heartbeat and LeaveGroup it takes the
// throttle time for the error code, and of SyncGroup 4 and 5 it writes texts in the wrong form.
const (
	maxJoinGroup  int16 = 5
	maxSyncGroup  int16 = 3
	maxHeartbeat  int16 = 0
	maxLeaveGroup int16 = 0
)

// Member is a member of a consumer group in one generation. The ID is empty before the first answer.
type Member struct {
	Group      string
	ID         string
	Generation int32
}

// GroupJoin asks for a place in a group.
type GroupJoin struct {
	Member Member
	// SessionTimeout is how long the coordinator waits for a heartbeat, RebalanceTimeout how long it waits for a
	// known member to join again.
	SessionTimeout, RebalanceTimeout time.Duration
	// Strategies are those that the member can carry out, the best first.
	Strategies []string
	Topics     []string
}

// JoinedGroup is a generation of a group, as one member sees it.
type JoinedGroup struct {
	Member   Member
	Strategy string
	// Subscriptions are the topics of every member by its id, given to the leader alone; nil: another one leads.
	Subscriptions map[string][]string
}

// JoinGroup waits until the group has gathered, for the rebalance timeout and a while at most. A coordinator that
// wants a member id first has given one in the answer beside CodeMemberIDRequired.
func (c *Cluster) JoinGroup(ctx context.Context, join *GroupJoin) (*JoinedGroup, error) {
	m := join.Member
	req := &joingroup.Request{
		GroupID: m.Group, MemberID: m.ID, ProtocolType: "consumer",
		SessionTimeoutMS: int32(join.SessionTimeout.Milliseconds()), RebalanceTimeoutMS: int32(join.RebalanceTimeout.Milliseconds()),
	}
	for _, name := range join.Strategies {
		req.Protocols = append(req.Protocols, joingroup.RequestProtocol{Name: name, Metadata: encodeSubscription(join.Topics)})
	}
	// the coordinator may wait for others as long as their timeout, which we do not know
	res, address, err := askGroup[*joingroup.Response](ctx, c, m.Group, req, maxJoinGroup, 2*join.RebalanceTimeout+c.cfg.CallTimeout)
	if err != nil {
		return nil, err
	}
	out := &JoinedGroup{Member: Member{m.Group, res.MemberID, res.GenerationID}, Strategy: res.ProtocolName}
	if err := c.groupAnswer("JoinGroup", m.Group, address, res.ErrorCode); err != nil {
		return out, err
	}
	if res.LeaderID != res.MemberID {
		return out, nil
	}
	out.Subscriptions = map[string][]string{}
	for _, other := range res.Members {
		topics, err := decodeSubscription(other.Metadata)
		if err != nil {
			return out, &Error{Code: CodeInconsistentProtocol, API: "JoinGroup", Address: address, Partition: -1, Detail: "group " + m.Group + ", member " + other.MemberID + ": " + err.Error()}
		}
		out.Subscriptions[other.MemberID] = topics
	}
	return out, nil
}

// SyncGroup gives the partitions of the member. The leader hands in those of all members, the others nil.
func (c *Cluster) SyncGroup(ctx context.Context, m Member, all map[string][]TopicPartition) ([]TopicPartition, error) {
	req := &syncgroup.Request{GroupID: m.Group, MemberID: m.ID, GenerationID: m.Generation, Assignments: []syncgroup.RequestAssignment{}}
	for id, parts := range all {
		req.Assignments = append(req.Assignments, syncgroup.RequestAssignment{MemberID: id, Assignment: encodeAssignment(parts)})
	}
	res, address, err := askGroup[*syncgroup.Response](ctx, c, m.Group, req, maxSyncGroup, c.cfg.CallTimeout)
	if err != nil {
		return nil, err
	}
	if err := c.groupAnswer("SyncGroup", m.Group, address, res.ErrorCode); err != nil {
		return nil, err
	}
	parts, err := decodeAssignment(res.Assignments)
	if err != nil {
		return nil, &Error{Code: CodeInconsistentProtocol, API: "SyncGroup", Address: address, Partition: -1, Detail: "group " + m.Group + ": " + err.Error()}
	}
	return parts, nil
}

// Heartbeat says that the member lives, and hears whether the group gathers again.
func (c *Cluster) Heartbeat(ctx context.Context, m Member) error {
	req := &heartbeat.Request{GroupID: m.Group, MemberID: m.ID, GenerationID: m.Generation}
	res, address, err := askGroup[*heartbeat.Response](ctx, c, m.Group, req, maxHeartbeat, c.cfg.CallTimeout)
	if err != nil {
		return err
	}
	return c.groupAnswer("Heartbeat", m.Group, address, res.ErrorCode)
}

// LeaveGroup gives the member's place up, so that the others need not wait for its session to run out.
func (c *Cluster) LeaveGroup(ctx context.Context, m Member) error {
	req := &leavegroup.Request{GroupID: m.Group, MemberID: m.ID}
	res, address, err := askGroup[*leavegroup.Response](ctx, c, m.Group, req, maxLeaveGroup, c.cfg.CallTimeout)
	if err != nil {
		return err
	}
	return c.groupAnswer("LeaveGroup", m.Group, address, res.ErrorCode)
}

// groupAnswer makes the error of a code; a coordinator that is none any more is forgotten.
func (c *Cluster) groupAnswer(api, group, address string, code int16) error {
	c.noteCode(coordinatorKey{groupCoordinator, group}, code)
	if code == CodeNone {
		return nil
	}
	return &Error{Code: code, API: api, Address: address, Partition: -1, Detail: "group " + group}
}

// cappedMessage is a message of which kafka-go knows newer versions than it should.
type cappedMessage struct {
	message
	newest int16
}

func (m *cappedMessage) converse(conn *protocol.Conn, h callHeader) error {
	h.version = min(h.version, m.newest)
	return m.message.converse(conn, h)
}

// askGroup sends a message to the coordinator of a group. It has its own deadline: a join takes as long as the
// slowest member.
func askGroup[T protocol.Message](ctx context.Context, c *Cluster, group string, req protocol.Message, newest int16, timeout time.Duration) (res T, address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	k := coordinatorKey{groupCoordinator, group}
	id, err := c.coordinator(ctx, k)
	if err != nil {
		return res, "", err
	}
	to, err := c.broker(ctx, id)
	if err != nil {
		c.forgetCoordinator(k)
		return res, "", err
	}
	talk := &cappedMessage{message{request: req}, newest}
	for range 3 { // the pool may hold connections that the broker has closed
		if err = c.callOnce(ctx, to, talk); !closedByPeer(err) || ctx.Err() != nil {
			break
		}
	}
	var lost *CallError
	if errors.As(err, &lost) && Classify(err) != ClassCanceled {
		c.forgetCoordinator(k)
	}
	if err != nil {
		return res, to.String(), err
	}
	res, _ = talk.response.(T) // kafka-go decodes the answer of a request by its type
	return res, to.String(), nil
}
