package reporter

import (
	"errors"
	"slices"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// What the handlers of a run are told. All of it happens in replays as well:
// what they count decides when an update is answered.

// openStep is an activity that was scheduled and is not known to have ended.
type openStep struct {
	name   string
	future workflow.Future
}

// install lets the run be followed, and returns the context for its code.
func (w *workflowRun) install(ctx workflow.Context) (workflow.Context, error) {
	info := workflow.GetInfo(ctx)
	if w.r.opt.noHandlers || info.WorkflowType.Name == reconcilerWorkflow {
		return ctx, nil
	}
	o := handlers.Options{Tags: memoTags(info.Memo, w.r.opt.converter), DataConverter: w.r.opt.converter}
	if fields := interceptor.WorkflowHeader(ctx); fields != nil && info.ContinuedExecutionRunID != "" {
		var of string
		// One that names no run is of a worker that did not say so.
		if p := fields[handlers.CarrierHeader]; p == nil ||
			converter.GetDefaultDataConverter().FromPayload(p, &of) == nil && of == info.ContinuedExecutionRunID {
			o.Carried = fields[handlers.CarriedHeader]
		}
	}
	h, err := handlers.Install(ctx, o)
	if err != nil {
		return ctx, err
	}
	w.handlers = h
	return handlers.NewContext(ctx, h), nil
}

// carry gives the run's subscribers to the one that it continues as.
func (w *workflowRun) carry(ctx workflow.Context) {
	if w.handlers == nil {
		return
	}
	if fields := interceptor.WorkflowHeader(ctx); fields != nil {
		p := w.handlers.Carry(ctx)
		of, err := converter.GetDefaultDataConverter().ToPayload(workflow.GetInfo(ctx).WorkflowExecution.RunID)
		if p != nil && err == nil {
			fields[handlers.CarriedHeader], fields[handlers.CarrierHeader] = p, of
		}
	}
}

// changed counts a change.
func (w *workflowRun) changed(ctx workflow.Context, f func(*handlers.State)) {
	if w.handlers == nil {
		return
	}
	w.stepsEnded(ctx)
	w.handlers.Change(ctx, f)
}

// stepBegan counts that an activity was scheduled.
func (w *workflowRun) stepBegan(ctx workflow.Context, name string, f workflow.Future) {
	if w.handlers == nil {
		return
	}
	w.changed(ctx, func(s *handlers.State) { s.Step, s.StepStatus = name, progress.StatusQueued })
	w.open = append(w.open, openStep{name, f})
}

// stepsEnded counts the activities that have ended. It is called with every
// other change, too: the workflow's code goes on before the coroutine that
// waits for the activity does, and what it does next happened after the end.
func (w *workflowRun) stepsEnded(ctx workflow.Context) {
	if w.handlers == nil {
		return
	}
	var ended []openStep
	w.open = slices.DeleteFunc(w.open, func(s openStep) bool {
		if s.future.IsReady() {
			ended = append(ended, s)
			return true
		}
		return false
	})
	for _, step := range ended {
		status := statusOfStep(step.future.Get(ctx, nil))
		w.handlers.Change(ctx, func(s *handlers.State) { s.Step, s.StepStatus = step.name, status })
	}
}

// statusOfStep says how an activity ended, as its workflow sees it.
func statusOfStep(err error) progress.Status {
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return progress.StatusTimedOut
	}
	status, _ := outcomeOfActivity(err)
	return status
}

// finish says that the workflow function has returned, and lets go of who
// waits for the next change.
func (w *workflowRun) finish(ctx workflow.Context, err error) {
	if w.handlers == nil {
		return
	}
	w.stepsEnded(ctx)
	w.handlers.Finish(ctx, handlers.StatusOf(err))
}
