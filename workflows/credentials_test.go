package workflows_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/message"
)

// A carrier that does not know the credentials ends the run at once, which
// says so; once the operator has mended it, a reset sends the message.
func TestWrongCredentials(t *testing.T) {
	wrong := true
	c := &carrier{before: func(int) error {
		if wrong {
			return &message.Error{Class: message.ErrRefused, Code: 20003, HTTPStatus: 401, Cause: fmt.Errorf("%w: check TWILIO_AUTH_TOKEN", message.ErrCredentials)}
		}
		return nil
	}}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	run := o.converse(o.inbound("hello"))
	err := o.get(run, nil)
	var failed *temporal.ApplicationError
	if !errors.As(err, &failed) || failed.Type() != activities.Refused || !failed.NonRetryable() || !strings.Contains(err.Error(), "TWILIO_AUTH_TOKEN") || c.attempts != 1 {
		t.Fatalf("%v after %d attempts", err, c.attempts)
	}
	events := o.events(run.GetID())
	if last := events[len(events)-1]; !strings.Contains(last.Error, "TWILIO_AUTH_TOKEN") {
		t.Errorf("the end shows %+v", last)
	}

	c.mu.Lock()
	wrong = false
	c.mu.Unlock()
	var task int64 // the workflow task that has the reply sent
	history := o.client.GetWorkflowHistory(t.Context(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		if a := e.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == "Send" {
			task = a.GetWorkflowTaskCompletedEventId()
		}
	}
	again, err := o.client.ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		Reason: "mended", WorkflowTaskFinishEventId: task, RequestId: testenv.Prefix(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	var result message.ConversationResult
	if err := o.get(o.client.GetWorkflow(t.Context(), run.GetID(), again.GetRunId()), &result); err != nil || !result.Sent {
		t.Errorf("after the reset: %+v, %v", result, err)
	}
	if to := slices.Clone(c.taken); len(to) != 1 || to[0].To != ada {
		t.Errorf("sent %v", to)
	}
}
