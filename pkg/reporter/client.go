package reporter

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// queuedFor bounds how long a start waits for its note to be written.
const queuedFor = 200 * time.Millisecond

// ClientInterceptor returns an interceptor for clients that start workflows:
// after a start it notes that the run is queued, so that it shows before any
// worker takes it. The start never fails for it, and waits 200 ms at most. An
// update with start notes nothing: it returns when a worker has the run.
func ClientInterceptor(store Store) interceptor.ClientInterceptor {
	return &clientInterceptor{store: store}
}

type clientInterceptor struct {
	interceptor.ClientInterceptorBase
	store Store
}

func (i *clientInterceptor) InterceptClient(next interceptor.ClientOutboundInterceptor) interceptor.ClientOutboundInterceptor {
	o := &clientOutbound{store: i.store}
	o.Next = next
	return o
}

type clientOutbound struct {
	interceptor.ClientOutboundInterceptorBase
	store Store
}

func (o *clientOutbound) ExecuteWorkflow(ctx context.Context, in *interceptor.ClientExecuteWorkflowInput) (client.WorkflowRun, error) {
	run, err := o.Next.ExecuteWorkflow(ctx, in)
	if err == nil {
		o.queued(ctx, run, in.WorkflowType, in.Options)
	}
	return run, err
}

func (o *clientOutbound) SignalWithStartWorkflow(ctx context.Context, in *interceptor.ClientSignalWithStartWorkflowInput) (client.WorkflowRun, error) {
	run, err := o.Next.SignalWithStartWorkflow(ctx, in)
	if err == nil {
		o.queued(ctx, run, in.WorkflowType, in.Options)
	}
	return run, err
}

// queued writes the note. Whatever keeps it from being written is no loss:
// the worker says that the run has started.
func (o *clientOutbound) queued(ctx context.Context, run client.WorkflowRun, workflowType string, options *client.StartWorkflowOptions) {
	if workflowType == reconcilerWorkflow {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queuedFor)
	defer cancel()
	id := &identity{workflowID: run.GetID(), runID: run.GetRunID(), workflowType: workflowType, chain: run.GetRunID()}
	// A start may also return a run that has been going on for long.
	if snap, err := o.store.Snapshot(ctx, id.workflowID); err == nil && snap.RunID == id.runID || err != nil && !errors.Is(err, progress.ErrNotFound) {
		return
	}
	e := id.event(progress.TypeStarted)
	e.Status, e.WorkflowType = progress.StatusQueued, workflowType
	if options != nil {
		e.Tags = tagsOf(options.Memo)
	}
	_, _ = o.store.Append(ctx, redisstore.Append{
		WorkflowID: id.workflowID,
		Fence:      redisstore.Fence{RunID: id.runID, Chain: id.chain, RunTime: e.Time, Provisional: true},
		Producer:   redisstore.Producer{Name: "q/" + id.runID},
		Number:     1,
		Events:     []progress.Event{e},
	})
}
