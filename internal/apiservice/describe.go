package apiservice

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/subscriber/strategies"
)

const (
	// redisWait bounds how long Redis is asked for a workflow's type before
	// Temporal is.
	redisWait = 500 * time.Millisecond
	// refusedFor is how long Temporal is left alone once it has refused a
	// describe. It is asked for viewers who are about to come: there is no other
	// bound to how often.
	refusedFor = 5 * time.Second
)

// describer asks Temporal for workflows before anybody follows them, by one
// describe each, which is not tried again. After a refusal nobody asks for
// [refusedFor], then one does, and all others once that is answered. What it
// did not ask, and what was refused, is a [strategies.Later].
type describer struct {
	service   workflowservice.WorkflowServiceClient
	namespace string

	mu sync.Mutex
	// until is when Temporal is asked again; zero: nothing has been refused
	// since it last answered.
	until time.Time
}

func newDescriber(service workflowservice.WorkflowServiceClient, namespace string) *describer {
	if namespace == "" {
		namespace = client.DefaultNamespace
	}
	return &describer{service: service, namespace: namespace}
}

// typeOf returns how a workflow's type is learned: from what was written of
// it, else by a describe.
func (d *describer) typeOf(store *redisstore.Store) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (string, error) {
		redisCtx, cancel := context.WithTimeout(ctx, redisWait)
		defer cancel()
		// An error is no answer: Temporal knows better than Redis, anyway.
		if snap, err := store.Snapshot(redisCtx, id); err == nil && snap.Type != "" {
			return snap.Type, nil
		}
		r, err := d.describe(calledBy(ctx, strategies.Auto), id)
		return r.GetWorkflowExecutionInfo().GetType().GetName(), err
	}
}

// find reports whether there is a workflow. What Temporal has no room for lets
// the viewer wait.
func (d *describer) find(ctx context.Context, id string) error {
	_, err := d.describe(calledBy(ctx, strategy.Redis), id)
	return err
}

// describe returns what Temporal says of the newest run. Its error wraps
// [progress.ErrNotFound] where there is none.
func (d *describer) describe(ctx context.Context, id string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	wait, first := d.begin(time.Now())
	if wait > 0 {
		return nil, &strategies.Later{After: wait}
	}
	r, err := d.service.DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: d.namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id},
	})
	var notFound *serviceerror.NotFound
	switch {
	case errors.As(err, &notFound):
		err = fmt.Errorf("workflow %q: %w", id, progress.ErrNotFound)
	case err != nil:
		err = fmt.Errorf("describe the workflow: %w", err)
	}
	one, all := refused(err)
	switch {
	case all:
		d.leaveAlone(time.Now())
	case first && !one:
		d.answered()
	}
	if one || all {
		err = &strategies.Later{After: refusedFor, Err: err}
	}
	return r, err
}

// begin returns how long nobody is to ask; first is for the one who asks
// first after that, while all others wait on.
func (d *describer) begin(now time.Time) (wait time.Duration, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until.IsZero() {
		return 0, false
	}
	if wait = d.until.Sub(now); wait > 0 {
		return wait, false
	}
	d.until = now.Add(refusedFor)
	return 0, true
}

func (d *describer) leaveAlone(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = now.Add(refusedFor)
}

// answered is called by the first after a refusal only: an answer to a question
// from before it says nothing of the time since.
func (d *describer) answered() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Time{}
}

// refused reports an error that is no answer: of the one workflow, whose run
// is busy or whose part of the server does not answer in time, or of all.
func refused(err error) (one, all bool) {
	var (
		limited *serviceerror.ResourceExhausted
		away    *serviceerror.Unavailable
		late    *serviceerror.DeadlineExceeded
	)
	switch {
	case errors.As(err, &limited):
		one = limited.Cause == enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW
		return one, !one
	case errors.As(err, &away):
		return false, true
	}
	return errors.As(err, &late) || errors.Is(err, context.DeadlineExceeded), false
}
