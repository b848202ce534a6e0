package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is an answer of a broker that says no.
type Error struct {
	Code      int16  // Kafka's error code
	API       string // the call, such as "Produce"
	Address   string // who answered; empty if unknown
	Topic     string // empty if the call is not about a topic
	Partition int32  // -1 if the call is not about a partition
	Detail    string // what the broker added, or a hint
}

// Error names the call, its object, the code and what it means.
func (e *Error) Error() string {
	var s strings.Builder
	s.WriteString(e.API)
	switch {
	case e.Topic != "" && e.Partition >= 0:
		fmt.Fprintf(&s, " %s/%d", e.Topic, e.Partition)
	case e.Topic != "":
		fmt.Fprintf(&s, " %s", e.Topic)
	}
	if e.Address != "" {
		fmt.Fprintf(&s, " at %s", e.Address)
	}
	info := codeInfo(e.Code)
	fmt.Fprintf(&s, ": %s [%d]: %s", info.name, e.Code, info.meaning)
	if e.Detail != "" {
		fmt.Fprintf(&s, " (%s)", e.Detail)
	}
	return s.String()
}

// Name is Kafka's name of the code, such as NOT_LEADER_OR_FOLLOWER.
func (e *Error) Name() string { return codeInfo(e.Code).name }

// Class says what to do about the error.
func (e *Error) Class() Class { return codeInfo(e.Code).class }

// CallError is a call without an answer: no connection, a lost one, a deadline, a peer that is not
// Kafka.
type CallError struct {
	API     string
	Address string
	// Sent says that the request may have reached the broker: its outcome is unknown. False means
	// that not a byte of it was written.
	Sent bool
	Err  error
}

// Error names the call, the address and the cause.
func (e *CallError) Error() string {
	return fmt.Sprintf("%s at %s: %v", e.API, e.Address, e.Err)
}

// Unwrap gives the cause.
func (e *CallError) Unwrap() error { return e.Err }

// Class says what to do after an error.
type Class uint8

// The classes of errors.
const (
	// ClassNone is no error.
	ClassNone Class = iota
	// ClassRetry asks for the same call again after a pause.
	ClassRetry
	// ClassRefresh asks for fresh metadata first: the leader moved or cannot be reached.
	ClassRefresh
	// ClassCoordinator asks for the coordinator to be looked up again. The calls of this package
	// forget it by themselves.
	ClassCoordinator
	// ClassFatal stays until somebody changes something.
	ClassFatal
	// ClassCanceled is the end of the caller's context.
	ClassCanceled
)

// String is the class in lower case.
func (c Class) String() string {
	names := [...]string{"none", "retry", "refresh metadata", "find coordinator", "fatal", "canceled"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// Retriable says whether the same call can succeed later without anybody's help.
func (c Class) Retriable() bool {
	return c == ClassRetry || c == ClassRefresh || c == ClassCoordinator
}

// Classify sorts any error of this package. A joined error has the class of its worst part; errors
// of other origin are fatal.
func Classify(err error) Class {
	if err == nil {
		return ClassNone
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		worst := ClassNone
		for _, e := range many.Unwrap() {
			worst = max(worst, Classify(e))
		}
		return worst
	}
	var answer *Error
	if errors.As(err, &answer) {
		return answer.Class()
	}
	var peer *PeerError
	var setup *SetupError
	if errors.As(err, &peer) || errors.As(err, &setup) {
		return ClassFatal
	}
	if errors.Is(err, context.Canceled) {
		return ClassCanceled
	}
	var call *CallError
	if errors.As(err, &call) {
		return ClassRefresh
	}
	return ClassFatal
}

// HasCode says whether err is an answer with one of the codes.
func HasCode(err error, codes ...int16) bool {
	var answer *Error
	return errors.As(err, &answer) && slices.Contains(codes, answer.Code)
}

// answerError makes the error of a code, nil for none.
func answerError(code int16, api, address, topic string, partition int32) error {
	if code == CodeNone {
		return nil
	}
	return &Error{Code: code, API: api, Address: address, Topic: topic, Partition: partition}
}
