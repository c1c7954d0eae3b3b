package handlers_test

import (
	"fmt"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/handlers"
)

// tasks returns the events that end the run's tasks, and how many of those
// have failed but for resets.
func (o *office) tasks(run client.WorkflowRun) (ends []int64, failed int) {
	o.t.Helper()
	for _, e := range o.history(run).Events {
		switch e.EventType {
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			ends = append(ends, e.EventId)
		case enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED:
			if e.GetWorkflowTaskFailedEventAttributes().Cause != enumspb.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW {
				failed++
			}
		}
	}
	return ends, failed
}

// reset has another run go on from the task that ends so, with what has come
// since but for some.
func (o *office) reset(run client.WorkflowRun, end int64, but ...enumspb.ResetReapplyExcludeType) client.WorkflowRun {
	o.t.Helper()
	r, err := o.client.ResetWorkflowExecution(o.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: run.GetID(), RunId: run.GetRunID()},
		WorkflowTaskFinishEventId: end, RequestId: fmt.Sprint(run.GetRunID(), end), Reason: "the test says so",
		ResetReapplyExcludeTypes: but,
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return o.client.GetWorkflow(o.t.Context(), run.GetID(), r.GetRunId())
}

// What waited for a change in the run that was reset waits for it in the
// history that the next run repeats, also when that one is reset.
func TestResetBehindUpdates(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run := o.start()
	s := o.state(run)
	change := func(text string) {
		t.Helper()
		h, err := o.next(run, handlers.Wait{Started: s.Started, Version: s.Version})
		if err != nil {
			t.Fatal(err)
		}
		o.say(run, text)
		before := s
		if err := h.Get(t.Context(), &s); err != nil || s.Version != before.Version+1 || s.Message != text {
			t.Fatalf("the next state behind %+v is %+v, %v", before, s, err)
		}
	}
	change("one")
	change("two")
	started := map[int64]bool{s.Started: true}
	for n := range 2 {
		before := s
		ends, _ := o.tasks(run)
		run = o.reset(run, ends[len(ends)-1])
		if s = o.state(run); s.RunID != run.GetRunID() || started[s.Started] {
			t.Fatalf("after reset %d the state is %+v", n, s)
		}
		started[s.Started] = true
		if s.Version > before.Version {
			t.Fatalf("after reset %d the state is %+v, behind %+v", n, s, before)
		}
		change(fmt.Sprint("again ", n))
	}

	// The waits behind an earlier point come along, and are nobody's.
	ends, _ := o.tasks(run)
	run = o.reset(run, ends[0], enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL)
	if s = o.state(run); s.Version != 1 {
		t.Errorf("the state is %+v", s)
	}
	for range handlers.DefaultMaxWaiting {
		if _, err := o.next(run, handlers.Wait{Started: s.Started, Version: 1000}); err != nil {
			t.Fatal(err)
		}
	}
	o.say(run, "return")
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, failed := o.tasks(run); failed != 0 {
		t.Errorf("%d tasks have failed", failed)
	}
	replay(t, o.history(run))
}
