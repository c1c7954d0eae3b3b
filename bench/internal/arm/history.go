package arm

import (
	"context"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
)

// History counts what is in histories.
type History struct {
	// Events are all, Tasks the workflow tasks that were completed.
	Events int64 `json:"events"`
	Tasks  int64 `json:"tasks"`
	// Starts and Timers are the runs' own; the rest comes from who follows
	// them. MarkerTasks are workflow tasks that recorded markers.
	Starts      int64 `json:"starts"`
	Timers      int64 `json:"timers"`
	Signals     int64 `json:"signals,omitempty"`
	Updates     int64 `json:"updates,omitempty"`
	Activities  int64 `json:"activities,omitempty"`
	Retries     int64 `json:"retries,omitempty"`
	MarkerTasks int64 `json:"marker_tasks,omitempty"`
}

// Own are the actions of the runs themselves.
func (h *History) Own() int64 { return h.Starts + h.Timers }

// Actions are the billable actions that leave a trace in histories.
func (h *History) Actions() int64 {
	return h.Own() + h.Signals + h.Updates + h.Activities + h.Retries + h.MarkerTasks
}

// add counts an event. markers is the workflow task whose markers were
// counted last.
func (h *History) add(e *historypb.HistoryEvent, markers *int64) {
	h.Events++
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		h.Starts++
	case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
		h.Tasks++
	case enumspb.EVENT_TYPE_TIMER_STARTED:
		h.Timers++
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		h.Signals++
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
		h.Updates++
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		h.Activities++
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED:
		h.Retries += int64(e.GetActivityTaskStartedEventAttributes().GetAttempt()) - 1
	case enumspb.EVENT_TYPE_MARKER_RECORDED:
		// All markers of one workflow task are one action.
		if task := e.GetMarkerRecordedEventAttributes().GetWorkflowTaskCompletedEventId(); task != *markers {
			*markers = task
			h.MarkerTasks++
		}
	}
}

// read adds a run's history.
func (h *History) read(ctx context.Context, c client.Client, r run) error {
	var markers int64
	events := c.GetWorkflowHistory(ctx, r.id, r.runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		if err != nil {
			return fmt.Errorf("read the history of %s: %w", r.id, err)
		}
		h.add(e, &markers)
	}
	return nil
}
