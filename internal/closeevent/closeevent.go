// Package closeevent reads how a run of a workflow ended from the last event
// of its history.
package closeevent

import (
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/runcast/runcast/pkg/progress"
)

// End is how a run ended.
type End struct {
	// Status is running where the run continued as new.
	Status progress.Status
	// Message says why, where it did not complete; not bounded.
	Message string
	// Successor is the run that goes on with the chain; empty: the event names
	// none.
	Successor string
}

// Of reads a close event; ok is false for any other.
func Of(e *historypb.HistoryEvent) (end End, ok bool) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		a := e.GetWorkflowExecutionCompletedEventAttributes()
		return End{Status: progress.StatusCompleted, Successor: a.GetNewExecutionRunId()}, true
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		a := e.GetWorkflowExecutionFailedEventAttributes()
		return End{Status: progress.StatusFailed, Message: failureText(a.GetFailure()), Successor: a.GetNewExecutionRunId()}, true
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		a := e.GetWorkflowExecutionTimedOutEventAttributes()
		return End{Status: progress.StatusTimedOut, Message: "the workflow timed out", Successor: a.GetNewExecutionRunId()}, true
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		return End{Status: progress.StatusCanceled}, true
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		a := e.GetWorkflowExecutionTerminatedEventAttributes()
		return End{Status: progress.StatusTerminated, Message: a.GetReason()}, true
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		a := e.GetWorkflowExecutionContinuedAsNewEventAttributes()
		return End{Status: progress.StatusRunning, Successor: a.GetNewExecutionRunId()}, true
	}
	return End{}, false
}

// failureText is the message of the failure that a person is looking for: the
// wrappers that only say "activity error" are left out.
func failureText(f *failurepb.Failure) string {
	for f.GetCause() != nil && (f.GetActivityFailureInfo() != nil || f.GetChildWorkflowExecutionFailureInfo() != nil) {
		f = f.GetCause()
	}
	return f.GetMessage()
}
