package reporter

import (
	"context"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
)

// workerInterceptor makes the interceptors of one worker or replayer.
type workerInterceptor struct {
	interceptor.WorkerInterceptorBase
	r *Reporter
	// mute keeps a replayer from reporting anything.
	mute bool
	// failsOnPanic says that the worker fails runs whose function panics.
	failsOnPanic bool
}

func (w *workerInterceptor) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	if w.r.store == nil {
		return next
	}
	i := &activityInbound{r: w.r}
	i.Next = next
	return i
}

func (w *workerInterceptor) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	i := &workflowInbound{run: &workflowRun{r: w.r, mute: w.mute || w.r.store == nil, names: make(map[string]int)}, failsOnPanic: w.failsOnPanic}
	i.Next = next
	return i
}

// isOwn reports an activity that is no step of its workflow.
func isOwn(activityType string) bool {
	return activityType == durableActivity || activityType == handlers.NotifyActivity || activityType == handlers.PushActivity
}

// Names of what the reporter runs itself, and does not report.
const (
	// durableActivity is activities.ReportProgress, which is named by string
	// since that package builds on this one.
	durableActivity    = "ReportProgress"
	reconcilerWorkflow = "runcast.Reconciler"
	reconcilerActivity = "runcast.Reconcile"
)
