package job

import "slices"

// State is where a job is in its life. The text is part of the public interface.
type State string

// The states. See Transitions and docs/job-states.md.
const (
	Created         State = "CREATED"
	WaitingForSlots State = "WAITING_FOR_SLOTS"
	Deploying       State = "DEPLOYING"
	Running         State = "RUNNING"
	Finishing       State = "FINISHING"
	Finished        State = "FINISHED"
	Stopping        State = "STOPPING"
	Stopped         State = "STOPPED"
	Canceling       State = "CANCELING"
	Canceled        State = "CANCELED"
	Restarting      State = "RESTARTING"
	Failing         State = "FAILING"
	Failed          State = "FAILED"
	FailedDataLoss  State = "FAILED_DATA_LOSS"
)

// States lists all states in the order of a job's life.
func States() []State {
	return []State{Created, WaitingForSlots, Deploying, Running, Restarting, Finishing, Stopping, Canceling, Failing,
		Finished, Stopped, Canceled, Failed, FailedDataLoss}
}

// Terminal says that a job in this state has ended for good.
func (s State) Terminal() bool {
	switch s {
	case Finished, Stopped, Canceled, Failed, FailedDataLoss:
		return true
	default:
		return false
	}
}

// deployed says that an attempt is out and its failure restarts the job.
func (s State) deployed() bool {
	return s == Deploying || s == Running || s == Finishing || s == Stopping
}

// Trigger names what moves a job from one state to another, for logs, metrics and the diagram.
type Trigger string

// The triggers.
const (
	OnSubmitted     Trigger = "submitted"
	OnRecovered     Trigger = "job manager started"
	OnGranted       Trigger = "slots granted"
	OnAllRun        Trigger = "all subtasks run"
	OnAllAtEnd      Trigger = "all sources at end"
	OnStop          Trigger = "stop"
	OnCancel        Trigger = "cancel"
	OnFinal         Trigger = "final checkpoint completed"
	OnWorkerLost    Trigger = "task manager lost"
	OnSubtaskFailed Trigger = "subtask failed"
	OnDeployFailed  Trigger = "deployment failed"
	OnCheckpoints   Trigger = "checkpoints failing"
	OnRetry         Trigger = "restart delay over"
	OnBudget        Trigger = "restarts used up"
	OnFenced        Trigger = "fenced again"
	OnRefused       Trigger = "restore refused"
	OnSource        Trigger = "source unreadable"
	OnDataLost      Trigger = "data lost"
	OnCleanedUp     Trigger = "cleaned up"
)

// Edge is one legal transition. From equal To says that the state takes note and stays.
type Edge struct {
	From  State
	Event Trigger
	To    State
}

// Transitions is the whole table; a move that is not in it is a bug.
func Transitions() []Edge { return slices.Clone(transitions) }

var transitions = []Edge{
	{Created, OnSubmitted, WaitingForSlots},
	{Created, OnRecovered, WaitingForSlots},
	{Created, OnCancel, Canceling},
	{Created, OnStop, Stopping},
	{Created, OnWorkerLost, Created},

	{WaitingForSlots, OnGranted, Deploying},
	{WaitingForSlots, OnStop, Stopping}, // it never ran
	{WaitingForSlots, OnStop, WaitingForSlots},
	{WaitingForSlots, OnCancel, Canceling},
	{WaitingForSlots, OnWorkerLost, WaitingForSlots},
	{WaitingForSlots, OnDataLost, Failing},
	{WaitingForSlots, OnRecovered, WaitingForSlots},
	{WaitingForSlots, OnRecovered, Finishing}, // the store holds a final checkpoint, whatever the record says
	{WaitingForSlots, OnRecovered, Stopping},

	{Deploying, OnAllRun, Running},
	{Deploying, OnWorkerLost, Restarting},
	{Deploying, OnSubtaskFailed, Restarting},
	{Deploying, OnDeployFailed, Restarting},
	{Deploying, OnBudget, Failing},
	{Deploying, OnFenced, Failing},
	{Deploying, OnRefused, Failing},
	{Deploying, OnDataLost, Failing},
	{Deploying, OnStop, Deploying},
	{Deploying, OnCancel, Canceling},
	{Deploying, OnRecovered, WaitingForSlots},
	{Deploying, OnRecovered, Finishing},
	{Deploying, OnRecovered, Stopping},

	{Running, OnAllAtEnd, Finishing},
	{Running, OnStop, Stopping},
	{Running, OnCancel, Canceling},
	{Running, OnWorkerLost, Restarting},
	{Running, OnSubtaskFailed, Restarting},
	{Running, OnCheckpoints, Restarting},
	{Running, OnBudget, Failing},
	{Running, OnFenced, Failing},
	{Running, OnSource, Failing},
	{Running, OnDataLost, Failing},
	{Running, OnRecovered, WaitingForSlots},
	{Running, OnRecovered, Finishing},
	{Running, OnRecovered, Stopping},

	{Restarting, OnRetry, WaitingForSlots},
	{Restarting, OnFinal, Finishing},
	{Restarting, OnFinal, Stopping},
	{Restarting, OnStop, Restarting},
	{Restarting, OnCancel, Canceling},
	{Restarting, OnWorkerLost, Restarting},
	{Restarting, OnDataLost, Failing},
	{Restarting, OnRecovered, WaitingForSlots},
	{Restarting, OnRecovered, Finishing},
	{Restarting, OnRecovered, Stopping},

	{Finishing, OnFinal, Finishing},
	{Finishing, OnCleanedUp, Finished},
	{Finishing, OnCancel, Canceling},
	{Finishing, OnWorkerLost, Restarting},
	{Finishing, OnWorkerLost, Finishing}, // after the final checkpoint
	{Finishing, OnSubtaskFailed, Restarting},
	{Finishing, OnCheckpoints, Restarting},
	{Finishing, OnBudget, Failing},
	{Finishing, OnFenced, Failing},
	{Finishing, OnSource, Failing},
	{Finishing, OnDataLost, Failing},
	{Finishing, OnRecovered, WaitingForSlots},
	{Finishing, OnRecovered, Finishing},

	{Stopping, OnFinal, Stopping},
	{Stopping, OnCleanedUp, Stopped},
	{Stopping, OnCancel, Canceling},
	{Stopping, OnWorkerLost, Restarting},
	{Stopping, OnWorkerLost, Stopping}, // after the final checkpoint
	{Stopping, OnSubtaskFailed, Restarting},
	{Stopping, OnCheckpoints, Restarting},
	{Stopping, OnBudget, Failing},
	{Stopping, OnFenced, Failing},
	{Stopping, OnSource, Failing},
	{Stopping, OnDataLost, Failing},
	{Stopping, OnRecovered, WaitingForSlots},
	{Stopping, OnRecovered, Stopping},

	{Canceling, OnCleanedUp, Canceled},
	{Canceling, OnCancel, Canceling},
	{Canceling, OnWorkerLost, Canceling},
	{Canceling, OnDataLost, Failing},
	{Canceling, OnRecovered, Canceling},

	{Failing, OnCleanedUp, Failed},
	{Failing, OnCleanedUp, FailedDataLoss},
	{Failing, OnFinal, Finishing}, // its write was on the way when the attempt failed
	{Failing, OnFinal, Stopping},
	{Failing, OnCancel, Failing},
	{Failing, OnWorkerLost, Failing},
	{Failing, OnDataLost, Failing},
	{Failing, OnRecovered, Failing},
	{Failing, OnRecovered, Finishing},
	{Failing, OnRecovered, Stopping},
}
