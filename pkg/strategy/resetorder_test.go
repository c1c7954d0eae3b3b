package strategy_test

import (
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/runcast/runcast/pkg/progress"
)

// continued follows a run until it has continued as another one, which began
// later than any that a reset makes of it says that it did. It returns what
// came.
func continued(v *viewer) []progress.Event {
	v.t.Helper()
	begun := time.Now()
	// In a task of its own.
	v.until("the first state", func(progress.Event) bool { return true })
	events := v.counts(1)
	first := events[len(events)-1].RunID
	eventually(v.t, "end of a second", func() bool { return time.Since(begun) > 1100*time.Millisecond })
	v.world.signal(v.id, "do", command{Return: "continue"})
	events = append(events, v.until("the next run", func(e progress.Event) bool { return e.RunID != first })...)
	return append(events, v.counts(2)...)
}

// reset has another run go on from the last task but one of a run, without
// what has come since.
func (w *world) reset(id, run string) {
	w.t.Helper()
	var ends []int64
	it := w.client.GetWorkflowHistory(w.t.Context(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			w.t.Fatal(err)
		}
		if e.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			ends = append(ends, e.EventId)
		}
	}
	_, err := w.client.ResetWorkflowExecution(w.t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: run},
		WorkflowTaskFinishEventId: ends[len(ends)-2], RequestId: id + run, Reason: "the test says so",
		ResetReapplyExcludeTypes: []enumspb.ResetReapplyExcludeType{enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// A reset of an earlier run than the newest, and one of a run that a reset has
// made, are behind what came before: who keeps the newest by its position
// takes what comes, and the end.
func TestResetOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		events := continued(v)
		w.reset(v.id, events[0].RunID)
		events = append(events, v.counts(8)...)
		w.reset(v.id, events[len(events)-1].RunID)
		events = append(events, v.counts(9)...)
		events = append(events, v.returns("complete")...)
		var snap progress.Snapshot
		for i := range events {
			if err := snap.Advance(&events[i]); err != nil {
				t.Error(err)
			}
		}
		if !snap.Closed() {
			t.Errorf("the end is not taken: %s", list(events))
		}
		late := w.watch(v.id, progress.Position{}).closed()
		if a, b := events[len(events)-1].Position(), late[len(late)-1].Position(); a != b {
			t.Errorf("the end is at %v for who was there, at %v for who comes late", a, b)
		}
		if g, more := w.watch(v.id, events[len(events)-1].Position()).next(); more {
			t.Errorf("behind the end comes %+v, %v", g.event, g.err)
		}
	})
}

// The run that a reset makes tells the subscribers that it has from the one
// before, long before they look by themselves.
func TestResetIsTold(t *testing.T) {
	t.Parallel()
	eachArm(t, subscribes, func(t *testing.T, a arm) {
		o := subscribing
		o.CheckEvery = time.Hour
		w := newWorld(t, subscribeArm(a.name, o))
		w.worker()
		v := w.follow("Commanded")
		events := continued(v)
		w.reset(v.id, events[0].RunID)
		v.counts(8)
		v.returns("complete")
	})
}
