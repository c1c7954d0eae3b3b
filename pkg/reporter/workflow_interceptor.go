package reporter

import (
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
)

// workflowInbound reports that the run begins, and that its function returned.
type workflowInbound struct {
	interceptor.WorkflowInboundInterceptorBase
	run *workflowRun
	// failsOnPanic says that a panic of the workflow function ends the run.
	failsOnPanic bool
}

func (i *workflowInbound) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	o := &workflowOutbound{run: i.run}
	o.Next = outbound
	return i.Next.Init(o)
}

func (i *workflowInbound) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	ctx = workflow.WithValue(ctx, runKey{}, i.run)
	i.run.live(ctx)
	ctx, err := i.run.install(ctx)
	if err != nil {
		return nil, err
	}
	if i.failsOnPanic {
		defer func() {
			// Nil also when the run leaves the worker's cache, which ends its
			// coroutines: then nothing has happened.
			if p := recover(); p != nil {
				if i.run.live(ctx) {
					i.run.r.confirm(i.run.id)
				}
				panic(p)
			}
		}()
	}
	result, err := i.Next.ExecuteWorkflow(ctx, in)
	i.run.finish(ctx, err)
	// Not deferred: see above.
	if i.run.live(ctx) && !workflow.IsContinueAsNewError(err) {
		i.run.r.confirm(i.run.id)
	}
	return result, err
}

// HandleQuery keeps the query's code from reporting, whatever the SDK takes
// it for: on a run that is in the worker's cache it does not count as a
// replay.
func (i *workflowInbound) HandleQuery(ctx workflow.Context, in *interceptor.HandleQueryInput) (any, error) {
	defer i.run.silence()()
	return i.Next.HandleQuery(ctx, in)
}

// ValidateUpdate keeps the validator from reporting: an update that it
// refuses has never been.
func (i *workflowInbound) ValidateUpdate(ctx workflow.Context, in *interceptor.UpdateInput) error {
	defer i.run.silence()()
	return i.Next.ValidateUpdate(ctx, in)
}

func (i *workflowInbound) ExecuteUpdate(ctx workflow.Context, in *interceptor.UpdateInput) (any, error) {
	return i.Next.ExecuteUpdate(workflow.WithValue(ctx, runKey{}, i.run), in)
}

// workflowOutbound reports activities that are scheduled live, and tells each
// activity whose progress it reports.
type workflowOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	run *workflowRun
}

func (o *workflowOutbound) ExecuteActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	step := ""
	if !isOwn(activityType) {
		step = o.run.stepName(options.Summary, activityType)
	}
	o.announce(ctx, step, false)
	f := o.Next.ExecuteActivity(ctx, activityType, args...)
	if step == "" {
		return f
	}
	o.run.stepBegan(ctx, step, f)
	if o.run.handlers != nil || !o.run.mute {
		o.watch(ctx, f, step, options.WaitForCancellation)
	}
	return f
}

func (o *workflowOutbound) ExecuteLocalActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	step := ""
	if !isOwn(activityType) {
		step = o.run.stepName(workflow.GetLocalActivityOptions(ctx).Summary, activityType)
	}
	o.announce(ctx, step, true)
	f := o.Next.ExecuteLocalActivity(ctx, activityType, args...)
	if step != "" && o.run.handlers != nil {
		o.run.stepBegan(ctx, step, f)
		o.Next.Go(ctx, "runcast "+step, func(ctx workflow.Context) {
			_ = f.Get(ctx, nil) // what it was is counted below
			o.run.stepsEnded(ctx)
		})
	}
	return f
}

func (o *workflowOutbound) NewContinueAsNewError(ctx workflow.Context, wfn any, args ...any) error {
	o.run.carry(ctx)
	return o.Next.NewContinueAsNewError(ctx, wfn, args...)
}

// announce sets the activity's header and reports its step as queued. An
// empty step is for an activity that is none.
func (o *workflowOutbound) announce(ctx workflow.Context, step string, local bool) {
	live := o.run.live(ctx)
	if p, err := o.run.header(ctx, step, local); err == nil {
		if fields := interceptor.WorkflowHeader(ctx); fields != nil {
			fields[headerKey] = p
		}
	}
	if live && step != "" {
		e := o.run.id.event(progress.TypeStep)
		e.Step, e.Status = step, progress.StatusQueued
		o.run.report(ctx, e)
	}
}

// watch reports the ends of an activity that only the workflow sees: that it
// timed out or was given up, that somebody else completed it, or that its
// worker does not report. It waits in a coroutine of its own, which makes no
// command and so leaves no trace in the history.
func (o *workflowOutbound) watch(ctx workflow.Context, f workflow.Future, step string, waits bool) {
	o.Next.Go(ctx, "runcast "+step, func(ctx workflow.Context) {
		err := f.Get(ctx, nil)
		o.run.stepsEnded(ctx)
		if !o.run.live(ctx) {
			return
		}
		e := o.run.id.event(progress.TypeStep)
		e.Step = step
		var timeout *temporal.TimeoutError
		var canceled *temporal.CanceledError
		switch {
		case errors.As(err, &timeout):
			e.Status, e.Error = progress.StatusTimedOut, timeoutText(timeout)
		case errors.As(err, &canceled) && !waits:
			e.Status = progress.StatusCanceled
		default:
			// The activity itself has reported it, if it could.
			e.Status, e.Error = outcomeOfActivity(err)
			e.Error = bounded(e.Error, textMax)
			o.run.put(ctx, e, true)
			return
		}
		o.run.report(ctx, e)
	})
}

func timeoutText(err *temporal.TimeoutError) string {
	switch err.TimeoutType() {
	case enumspb.TIMEOUT_TYPE_HEARTBEAT:
		return "no heartbeat came in time"
	case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
		return "no worker took the activity in time"
	case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE:
		return "the activity did not end in time, with all its attempts"
	}
	return "the activity did not end in time"
}

// runKey finds the run in workflow contexts.
type runKey struct{}
