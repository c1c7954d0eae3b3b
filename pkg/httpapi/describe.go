package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/progress"
)

// described is what Temporal says of the newest run of a workflow ID.
type described struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	// FirstRunID names the chain that the run belongs to.
	FirstRunID string `json:"first_run_id,omitempty"`
	Type       string `json:"type"`
	// Status is one of [progress.Status], or continued_as_new for a moment.
	Status    string    `json:"status"`
	TaskQueue string    `json:"task_queue"`
	StartTime time.Time `json:"start_time,omitzero"`
	CloseTime time.Time `json:"close_time,omitzero"`
	// HistoryLength counts the events of the run's history.
	HistoryLength int64  `json:"history_length"`
	Stream        string `json:"stream"`
	// UI is the run's page in Temporal's web UI, where there is one.
	UI string `json:"ui,omitempty"`
}

func (a *api) describe(w http.ResponseWriter, r *http.Request) {
	id, err := pathID(r)
	if err == nil {
		err = progress.CheckWorkflowID(id)
	}
	if err != nil {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: err.Error()})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	answer, err := a.Temporal.DescribeWorkflowExecution(ctx, id, "")
	if notFound := (*serviceerror.NotFound)(nil); errors.As(err, &notFound) {
		problem.Write(w, problem.Problem{
			Status: http.StatusNotFound,
			Detail: fmt.Sprintf("Temporal knows no workflow %q; it may have ended longer ago than the namespace keeps.", clip(id)),
		})
		return
	}
	if err != nil {
		a.temporalError(w, r, err)
		return
	}
	info := answer.GetWorkflowExecutionInfo()
	d := described{
		WorkflowID:    id,
		RunID:         info.GetExecution().GetRunId(),
		FirstRunID:    info.GetFirstRunId(),
		Type:          info.GetType().GetName(),
		Status:        statusName(info.GetStatus()),
		TaskQueue:     info.GetTaskQueue(),
		HistoryLength: info.GetHistoryLength(),
		Stream:        a.streamURL(id, ""),
	}
	if t := info.GetStartTime(); t.IsValid() {
		d.StartTime = t.AsTime()
	}
	if t := info.GetCloseTime(); t.IsValid() {
		d.CloseTime = t.AsTime()
	}
	if a.UI != "" {
		d.UI = a.UI + "/namespaces/" + url.PathEscape(a.Namespace) +
			"/workflows/" + url.PathEscape(id) + "/" + url.PathEscape(d.RunID) + "/history"
	}
	writeJSON(w, http.StatusOK, d)
}

// statusName spells Temporal's statuses as [progress.Status] does.
func statusName(s enumspb.WorkflowExecutionStatus) string {
	switch s {
	case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return string(progress.StatusRunning)
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return string(progress.StatusCompleted)
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		return string(progress.StatusFailed)
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return string(progress.StatusCanceled)
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return string(progress.StatusTerminated)
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return string(progress.StatusTimedOut)
	case enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
		return "continued_as_new"
	}
	return strings.ToLower(s.String())
}

// temporalError answers a call to Temporal that failed for no fault of the
// client's, or that Temporal found invalid.
func (a *api) temporalError(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the client has gone; nobody reads an answer
	}
	if invalid := (*serviceerror.InvalidArgument)(nil); errors.As(err, &invalid) {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: "Temporal refused it: " + invalid.Message + "."})
		return
	}
	if detail := misconfigured(err); detail != "" {
		a.Logger.Error("Temporal refuses the service", "method", r.Method, "path", r.URL.Path, "error", err)
		problem.Write(w, problem.Problem{Status: http.StatusInternalServerError, Detail: detail})
		return
	}
	a.Logger.Error("Temporal call failed", "method", r.Method, "path", r.URL.Path, "error", err)
	w.Header().Set("Retry-After", "1")
	problem.Write(w, problem.Problem{
		Status: http.StatusServiceUnavailable,
		Detail: "Temporal did not take the call in time; try again. The server's log says why.",
	})
}

// misconfigured says what keeps every call from being taken, or "": trying
// again does not help.
func misconfigured(err error) string {
	var namespace *serviceerror.NamespaceNotFound
	var denied *serviceerror.PermissionDenied
	switch {
	case errors.As(err, &namespace):
		return "Temporal does not know the service's namespace; the operator has to check TEMPORAL_NAMESPACE."
	case errors.As(err, &denied):
		return "Temporal does not permit the service this call; the operator has to check its credentials."
	}
	return ""
}
