package reporter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// activityInbound reports that an attempt of an activity begins and how it
// ends, and lets the activity report in between.
type activityInbound struct {
	interceptor.ActivityInboundInterceptorBase
	r *Reporter
}

func (i *activityInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	info := activity.GetInfo(ctx)
	if info.WorkflowExecution.ID == "" || info.ActivityType.Name == reconcilerActivity {
		return i.Next.ExecuteActivity(ctx, in) // no workflow to report on
	}
	h, _ := readHeader(interceptor.Header(ctx))
	a := i.r.newActivity(ctx, info, h)
	defer a.finish(errors.New("the activity panicked")) // only if it did
	result, err := i.Next.ExecuteActivity(context.WithValue(ctx, activityKey{}, a), in)
	a.finish(err)
	return result, err
}

// activityKey finds the reporter in an activity's context.
type activityKey struct{}

// newActivity begins the reporting of one execution of an activity attempt.
func (r *Reporter) newActivity(ctx context.Context, info activity.Info, h header) *ActivityReporter {
	if h.Run != info.WorkflowExecution.RunID {
		h = header{}
		// The header is another run's, or there is none. Without it the store
		// takes the events only if the run is its current one.
		h.Run, h.Chain = info.WorkflowExecution.RunID, info.WorkflowExecution.RunID
		if info.WorkflowType != nil {
			h.WorkflowType = info.WorkflowType.Name
		}
		if info.ActivityType.Name != durableActivity {
			h.Step = fmt.Sprintf("%s#%s", bounded(info.ActivityType.Name, nameMax), info.ActivityID)
		}
	}
	started := info.StartedTime
	if h.TaskTime > 0 {
		started = time.UnixMilli(h.TaskTime)
	}
	a := &ActivityReporter{
		r: r,
		id: &identity{
			workflowID: info.WorkflowExecution.ID, runID: h.Run, workflowType: h.WorkflowType, time: h.runTime(),
			chain: h.Chain, first: h.Chain, reset: h.Reset,
		},
		producer: redisstore.Producer{
			Name:    "a/" + h.Run + "/" + info.ActivityID,
			Started: started,
			Attempt: int(info.Attempt),
			// A local activity is executed again under the same ID and
			// attempt; the later execution is the greater one.
			Nonce: fmt.Sprintf("%016x%s", time.Now().UnixNano(), rand.Text()[:4]),
		},
		attempt: int(info.Attempt),
		step:    h.Step,
		next:    1,
		wake:    make(chan struct{}, 1),
		urgent:  make(chan struct{}, 1),
		ending:  make(chan struct{}),
		ended:   make(chan struct{}),
		buffer:  buffer{recordsMax: r.opt.recordsMax, bytesMax: r.opt.bytesMax},
		steps:   make(map[string]*stepState),
		earlier: r.settling.of(info.WorkflowExecution.ID),
	}
	r.tasks.start(a.run)
	if a.step != "" {
		a.begin(a.step)
	}
	return a
}

// finish reports how the activity ended, waits until all its reports are
// written, within the bound, and lets go of it. Only the first call counts.
func (a *ActivityReporter) finish(err error) {
	a.mu.Lock()
	if a.finished {
		a.mu.Unlock()
		return
	}
	a.finished, a.since = true, time.Now()
	// An activity that somebody else completes is still running.
	pending := errors.Is(err, activity.ErrResultPending)
	switch {
	case a.step == "" || pending:
	case a.refused != nil:
		a.r.count.refused.Add(1)
	case a.over != nil:
		a.lost(1)
	default:
		status, text := outcomeOfActivity(err)
		a.endLocked(a.step, status, text)
	}
	close(a.ending)
	a.mu.Unlock()

	t := time.NewTimer(a.r.opt.flushFor)
	defer t.Stop()
	select {
	case <-a.ended:
	case <-t.C:
		a.r.count.unflushed.Add(1)
		a.r.settling.add(a)
	}
}

func outcomeOfActivity(err error) (progress.Status, string) {
	var canceled *temporal.CanceledError
	var application *temporal.ApplicationError
	switch {
	case err == nil:
		return progress.StatusCompleted, ""
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		return progress.StatusCanceled, ""
	case errors.As(err, &application):
		return progress.StatusFailed, application.Message()
	}
	return progress.StatusFailed, err.Error()
}
