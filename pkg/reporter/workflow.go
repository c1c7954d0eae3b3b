package reporter

import (
	"math"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// Progress is the state of a run, or with Step of one of its steps. Nil and
// empty fields are not known.
type Progress struct {
	// Percent is 0 to 100.
	Percent *float64 `json:"percent,omitempty"`
	// Current and Total count things done and to do.
	Current *int64 `json:"current,omitempty"`
	Total   *int64 `json:"total,omitempty"`
	// Step names the step that this is about; empty means the whole run.
	Step string `json:"step,omitempty"`
	// Status is of the step only; empty means running.
	Status  progress.Status `json:"status,omitempty"`
	Message string          `json:"message,omitempty"`
}

// workflowState is what workflow code has said so far.
type workflowState struct {
	percent        *float64
	current, total *int64
	message        string
}

// WorkflowReporter reports from workflow code. Its state is written only when
// the code runs live, never in a replay, and costs no history event. It may
// be lost with the worker; the next report carries the whole state again. A
// workflow task that failed runs again and says again what it said. Where the
// history shows the failure, that is written again, and state stands as it
// was; where it does not, what the same code says at the same point counts as
// said.
// The zero value does nothing.
type WorkflowReporter struct {
	ctx workflow.Context
	run *workflowRun
}

// Workflow returns the reporter of the run that ctx belongs to. Without the
// plugin, in queries and in validators of updates, it does nothing.
func Workflow(ctx workflow.Context) WorkflowReporter {
	run, _ := ctx.Value(runKey{}).(*workflowRun)
	return WorkflowReporter{ctx, run}
}

// Percent reports how far the run is, 0 to 100.
func (w WorkflowReporter) Percent(p float64) {
	if w.idle() || math.IsNaN(p) {
		return
	}
	w.run.state.percent = clamped(p)
	w.progress()
}

// Count reports that current of total things are done, and the percentage
// with it.
func (w WorkflowReporter) Count(current, total int64) {
	if w.idle() {
		return
	}
	w.run.state.current, w.run.state.total = &current, &total
	if p, ok := percentOf(current, total); ok {
		w.run.state.percent = p
	}
	w.progress()
}

// Message reports what the run is doing now, in a few words.
func (w WorkflowReporter) Message(text string) {
	if w.idle() {
		return
	}
	w.run.state.message = bounded(text, textMax)
	w.progress()
}

// Step reports the state of a step that is no activity. It begins with
// progress.StatusRunning and ends with one of the terminal statuses.
func (w WorkflowReporter) Step(name string, status progress.Status, message string) {
	if w.idle() || name == "" || !stepStatus(status) {
		return
	}
	w.run.changed(w.ctx, func(s *handlers.State) {
		s.Step, s.StepStatus = bounded(name, nameMax), status
		if message != "" {
			s.Message = bounded(message, textMax)
		}
	})
	if !w.run.live(w.ctx) {
		return
	}
	e := w.run.id.event(progress.TypeStep)
	e.Step, e.Status, e.Message = bounded(name, nameMax), status, bounded(message, textMax)
	w.run.report(w.ctx, e)
}

// idle reports whether nothing may be said here, nor remembered.
func (w WorkflowReporter) idle() bool { return w.run == nil || w.run.silent }

func (w WorkflowReporter) progress() {
	w.run.changed(w.ctx, func(s *handlers.State) {
		s.Percent, s.Current, s.Total, s.Message = w.run.state.percent, w.run.state.current, w.run.state.total, w.run.state.message
	})
	if !w.run.live(w.ctx) {
		return
	}
	e := w.run.id.event(progress.TypeProgress)
	s := &w.run.state
	e.Percent, e.Current, e.Total, e.Message = s.percent, s.current, s.total, s.message
	w.run.report(w.ctx, e)
}

// Durable reports through the local activity ReportProgress (register
// activities.ReportProgress on the worker) and returns when the report is
// written; it is tried again until then, for up to a minute. It costs one
// history event. It works without the plugin on the workflow's worker, but
// does nothing without it on the activity's.
func (w WorkflowReporter) Durable(p Progress) error {
	if w.ctx == nil {
		return nil
	}
	ctx := workflow.WithLocalActivityOptions(w.ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    10 * time.Second,
		ScheduleToCloseTimeout: time.Minute,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumInterval: 5 * time.Second},
	})
	return workflow.ExecuteLocalActivity(ctx, durableActivity, p).Get(ctx, nil)
}
