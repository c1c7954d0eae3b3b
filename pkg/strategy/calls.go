package strategy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/runcast/runcast/internal/closeevent"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// Temporal is what the strategies call; a client.Client has it. It is the bare
// service, since the client's own methods try again by themselves what the
// server refuses, many times a second: a strategy slows down instead.
type Temporal interface {
	WorkflowService() workflowservice.WorkflowServiceClient
}

// CallOptions says how Temporal is called. The zero value of each field is its
// default.
type CallOptions struct {
	// Namespace is the client's; default: "default".
	Namespace string
	// DataConverter is the workers'; default: the SDK's.
	DataConverter converter.DataConverter
	// Timeout bounds each call that is no long poll; default: 3 s. A worker
	// that does not answer a query for so long is taken to be away.
	Timeout time.Duration
}

// calls makes the calls to Temporal, each once.
type calls struct {
	service   workflowservice.WorkflowServiceClient
	namespace string
	converter converter.DataConverter
	timeout   time.Duration
}

func newCalls(t Temporal, o CallOptions) *calls {
	c := &calls{t.WorkflowService(), o.Namespace, o.DataConverter, o.Timeout}
	if c.namespace == "" {
		c.namespace = "default"
	}
	if c.converter == nil {
		c.converter = converter.GetDefaultDataConverter()
	}
	if c.timeout <= 0 {
		c.timeout = 3 * time.Second
	}
	return c
}

// run is what Temporal says of a run.
type run struct {
	workflowType string
	id, chain    string
	// status is running while the run is open.
	status          progress.Status
	started, closed time.Time
	// events is the length of the history.
	events int64
	// unserved is since when the run waits for a worker to take it; zero: it
	// does not.
	unserved time.Time
	// taken says that a worker has taken it, and has not answered yet: it may
	// have gone since.
	taken bool
}

func (r *run) open() bool { return r.status == progress.StatusRunning }

// describe returns what Temporal says of a run, of the newest one where runID
// is empty. The error wraps [progress.ErrNotFound] where there is none.
func (c *calls) describe(ctx context.Context, id, runID string) (run, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	d, err := c.service.DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: c.namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: runID},
	})
	var notFound *serviceerror.NotFound
	switch {
	case errors.As(err, &notFound):
		return run{}, fmt.Errorf("workflow %q: %w", id, progress.ErrNotFound)
	case isTimeout(err):
		return run{}, fmt.Errorf("Temporal has not answered within %v: %w", c.timeout, err)
	case err != nil:
		return run{}, fmt.Errorf("describe the workflow: %w", err)
	}
	r := runOf(d.GetWorkflowExecutionInfo())
	switch t := d.GetPendingWorkflowTask(); t.GetState() {
	case enumspb.PENDING_WORKFLOW_TASK_STATE_SCHEDULED:
		r.unserved = t.GetScheduledTime().AsTime()
	case enumspb.PENDING_WORKFLOW_TASK_STATE_STARTED:
		r.taken = true
	}
	return r, nil
}

func runOf(info *workflowpb.WorkflowExecutionInfo) run {
	r := run{
		workflowType: info.GetType().GetName(), id: info.GetExecution().GetRunId(), chain: info.GetFirstRunId(),
		status: progress.StatusRunning, started: info.GetStartTime().AsTime(), events: info.GetHistoryLength(),
	}
	if t := info.GetCloseTime(); t != nil {
		r.closed = t.AsTime()
	}
	switch info.GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		r.status = progress.StatusCompleted
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		r.status = progress.StatusFailed
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		r.status = progress.StatusCanceled
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		r.status = progress.StatusTerminated
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		r.status = progress.StatusTimedOut
	}
	if r.chain == "" { // a server that does not tell
		r.chain = r.id
	}
	return r
}

// query asks the run's code for its state, which takes a worker; runs that
// have closed answer as well.
func (c *calls) query(ctx context.Context, id string, r *run) (handlers.State, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.service.QueryWorkflow(ctx, &workflowservice.QueryWorkflowRequest{
		Namespace: c.namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: r.id},
		Query: &querypb.WorkflowQuery{QueryType: handlers.Query},
	})
	var failed *serviceerror.QueryFailed
	switch {
	case errors.As(err, &failed) && names(failed.Error(), handlers.Query):
		return handlers.State{}, noHandler(r.workflowType, "query", handlers.Query)
	case isTimeout(err):
		return handlers.State{}, c.noAnswer(err)
	case err != nil:
		return handlers.State{}, fmt.Errorf("query the workflow: %w", err)
	case resp.GetQueryRejected() != nil:
		return handlers.State{}, fmt.Errorf("query the workflow: it is %s", strings.ToLower(resp.GetQueryRejected().GetStatus().String()))
	}
	return c.stateOf(id, handlers.Query, resp.GetQueryResult())
}

// noAnswer is the error of a call that only a worker can answer.
func (c *calls) noAnswer(err error) error {
	return fmt.Errorf("%w within %v: %w", errNoAnswer, c.timeout, err)
}

var errNoAnswer = errors.New("no worker has answered")

// publicly says of an error what everybody may know.
func publicly(err error) string {
	var unready *serviceerror.WorkflowNotReady
	switch {
	case errors.As(err, &unready):
		return "the workflow cannot be asked yet: it waits for its start, or its tasks fail"
	case errors.Is(err, errNoAnswer):
		return errNoAnswer.Error()
	case isBusy(err):
		return "the workflow has too much to do; it is asked less often"
	case isLimited(err):
		return "Temporal has too much to do; it is asked less often"
	}
	return "Temporal cannot be asked just now"
}

// names reports whether the text of a worker's refusal says that there is no
// handler of the name. The SDKs have words of their own for it.
func names(text, name string) bool {
	text = strings.ToLower(text)
	if !strings.Contains(text, name) {
		return false
	}
	for _, words := range []string{"unknown", "not found", "did not register", "not registered", "no handler"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func noHandler(workflowType, kind, name string) error {
	return fmt.Errorf("%w: workflow type %s has no %s handler %q; give its worker the plugin (reporter.New), or call handlers.Install in the workflow",
		ErrNoHandlers, workflowType, kind, name)
}

// stateOf reads what a handler answered.
func (c *calls) stateOf(id, handler string, p *commonpb.Payloads) (handlers.State, error) {
	var s handlers.State
	dc := converter.WithDataConverterSerializationContext(c.converter, converter.WorkflowSerializationContext{
		Namespace: c.namespace, WorkflowID: id,
	})
	if err := dc.FromPayloads(p, &s); err != nil {
		return s, fmt.Errorf("%w: what %q answers cannot be read, with the data converter that its worker has: %w", progress.ErrInvalid, handler, err)
	}
	if s.Started <= 0 || s.Version <= 0 {
		return s, fmt.Errorf("%w: what %q answers is no state", progress.ErrInvalid, handler)
	}
	return s, nil
}

// end returns how a closed run ended.
func (c *calls) end(ctx context.Context, id, runID string) (closeevent.End, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.service.GetWorkflowExecutionHistory(ctx, &workflowservice.GetWorkflowExecutionHistoryRequest{
		Namespace: c.namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: runID},
		HistoryEventFilterType: enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
	})
	if err != nil {
		return closeevent.End{}, fmt.Errorf("ask Temporal how the run ended: %w", err)
	}
	for _, e := range resp.GetHistory().GetEvents() {
		if end, ok := closeevent.Of(e); ok {
			return end, nil
		}
	}
	return closeevent.End{}, errors.New("ask Temporal how the run ended: there is no close event")
}

// isFinal reports an error that the same call will get again.
func isFinal(err error) bool {
	var (
		denied    *serviceerror.PermissionDenied
		invalid   *serviceerror.InvalidArgument
		namespace *serviceerror.NamespaceNotFound
		missing   *serviceerror.Unimplemented
	)
	return errors.Is(err, ErrNoHandlers) || errors.Is(err, progress.ErrInvalid) || errors.As(err, &denied) ||
		errors.As(err, &invalid) || errors.As(err, &namespace) || errors.As(err, &missing)
}

// isLimited reports that the server has too much to do.
func isLimited(err error) bool {
	var limited *serviceerror.ResourceExhausted
	return errors.As(err, &limited)
}

// isBusy reports that it is one run that has too much to do: the server gave
// its lock to others until the call was over.
func isBusy(err error) bool {
	var limited *serviceerror.ResourceExhausted
	return errors.As(err, &limited) && limited.Cause == enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW
}

// isTimeout reports a call that was given up.
func isTimeout(err error) bool {
	var late *serviceerror.DeadlineExceeded
	return errors.As(err, &late) || errors.Is(err, context.DeadlineExceeded)
}
