package strategy

import (
	"context"
	"errors"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// clockwork is a service whose answers take no time, so that the clock of a
// bubble shows the pauses between calls, and nothing else. What Temporal
// answers is the contract suite's.
type clockwork struct {
	workflowservice.WorkflowServiceClient
	begun time.Time
	// version is that of the state after the given time.
	version func(since time.Duration) int64
	// changed is when the state has changed last.
	changed time.Time
	// events is the length of the history after the given time; nil: 3.
	events func(since time.Duration) int64
	// closed says that the run has completed; nil: it is open.
	closed func(since time.Duration) bool
	// describing fails describes, querying hangs queries, while they say so.
	describing func(since time.Duration) error
	querying   func(since time.Duration) bool
	describes  []time.Duration
	queries    int
	// refusals are when a signal or an update was refused: all of them are,
	// but subscriptions where subscribed takes them, and updates where refusal,
	// which says how, says nil. A nil refusal: the server has too much to do.
	refusals   []time.Duration
	refusal    func(since time.Duration) error
	subscribed func(handlers.Subscription)
	// left are when a subscription was ended.
	left []time.Duration
	// refusing fails queries while it says so; queried is when they came.
	refusing func(since time.Duration) bool
	queried  []time.Duration
	// taken are when an update was taken, awaited is what the newest waits for.
	taken   []time.Duration
	awaited handlers.Wait
}

func (c *clockwork) WorkflowService() workflowservice.WorkflowServiceClient { return c }

func (c *clockwork) DescribeWorkflowExecution(context.Context, *workflowservice.DescribeWorkflowExecutionRequest, ...grpc.CallOption) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	since := time.Since(c.begun)
	c.describes = append(c.describes, since)
	if c.describing != nil {
		if err := c.describing(since); err != nil {
			return nil, err
		}
	}
	events := int64(3)
	if c.events != nil {
		events = c.events(since)
	}
	status := enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	if c.closed != nil && c.closed(since) {
		status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
		HistoryLength: events,
		Execution:     &commonpb.WorkflowExecution{WorkflowId: "wf", RunId: "run"}, FirstRunId: "run",
		Type: &commonpb.WorkflowType{Name: "Bake"}, Status: status,
		StartTime: timestamppb.New(c.begun),
	}}, nil
}

func (c *clockwork) QueryWorkflow(ctx context.Context, r *workflowservice.QueryWorkflowRequest, _ ...grpc.CallOption) (*workflowservice.QueryWorkflowResponse, error) {
	if r.GetQuery().GetQueryType() == metadataQuery {
		p, err := converter.GetDefaultDataConverter().ToPayloads(&sdkpb.WorkflowMetadata{Definition: &sdkpb.WorkflowDefinition{
			SignalDefinitions: []*sdkpb.WorkflowInteractionDefinition{{Name: handlers.Subscribe}},
		}})
		return &workflowservice.QueryWorkflowResponse{QueryResult: p}, err
	}
	c.queries++
	since := time.Since(c.begun)
	c.queried = append(c.queried, since)
	if c.refusing != nil && c.refusing(since) {
		return nil, errLimited
	}
	if c.querying != nil && c.querying(since) {
		<-ctx.Done()
		return nil, serviceerror.NewDeadlineExceeded("context deadline exceeded")
	}
	p, err := c.state(since)
	return &workflowservice.QueryWorkflowResponse{QueryResult: p}, err
}

// state is what the run answers after the given time.
func (c *clockwork) state(since time.Duration) (*commonpb.Payloads, error) {
	return converter.GetDefaultDataConverter().ToPayloads(handlers.State{
		Started: c.begun.UnixMilli(), Version: c.version(since), Time: c.changed, RunID: "run", Chain: "run", Type: "Bake",
	})
}

var errLimited = serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "slow down")

func (c *clockwork) SignalWorkflowExecution(_ context.Context, r *workflowservice.SignalWorkflowExecutionRequest, _ ...grpc.CallOption) (*workflowservice.SignalWorkflowExecutionResponse, error) {
	if c.subscribed != nil {
		var s handlers.Subscription
		if err := converter.GetDefaultDataConverter().FromPayloads(r.GetInput(), &s); err != nil {
			return nil, err
		}
		if r.GetSignalName() == handlers.Subscribe {
			c.subscribed(s)
		} else {
			c.left = append(c.left, time.Since(c.begun))
		}
		return &workflowservice.SignalWorkflowExecutionResponse{}, nil
	}
	return nil, c.refuse()
}

func (c *clockwork) refuse() error {
	since, err := time.Since(c.begun), error(errLimited)
	if c.refusal != nil {
		err = c.refusal(since)
	}
	if err != nil {
		c.refusals = append(c.refusals, since)
	}
	return err
}

func (c *clockwork) UpdateWorkflowExecution(ctx context.Context, r *workflowservice.UpdateWorkflowExecutionRequest, _ ...grpc.CallOption) (*workflowservice.UpdateWorkflowExecutionResponse, error) {
	err := c.refuse()
	if failed := (*temporal.ApplicationError)(nil); errors.As(err, &failed) { // by the run itself
		return &workflowservice.UpdateWorkflowExecutionResponse{Outcome: &updatepb.Outcome{Value: &updatepb.Outcome_Failure{
			Failure: temporal.GetDefaultFailureConverter().ErrorToFailure(failed),
		}}}, nil
	}
	if err != nil {
		return nil, err
	}
	var w handlers.Wait
	if err := converter.GetDefaultDataConverter().FromPayloads(r.GetRequest().GetInput().GetArgs(), &w); err != nil {
		return nil, err
	}
	if w != c.awaited { // or it is the same one, asked for again
		c.taken, c.awaited = append(c.taken, time.Since(c.begun)), w
	}
	const accepted = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
	if r.GetWaitPolicy().GetLifecycleStage() <= accepted && c.version(time.Since(c.begun)) <= c.awaited.Version {
		return &workflowservice.UpdateWorkflowExecutionResponse{Stage: accepted}, nil
	}
	outcome, err := c.outcome(ctx)
	return &workflowservice.UpdateWorkflowExecutionResponse{Outcome: outcome}, err
}

func (c *clockwork) PollWorkflowExecutionUpdate(ctx context.Context, _ *workflowservice.PollWorkflowExecutionUpdateRequest, _ ...grpc.CallOption) (*workflowservice.PollWorkflowExecutionUpdateResponse, error) {
	outcome, err := c.outcome(ctx)
	return &workflowservice.PollWorkflowExecutionUpdateResponse{Outcome: outcome}, err
}

// outcome waits for the change that the newest update waits for.
func (c *clockwork) outcome(ctx context.Context) (*updatepb.Outcome, error) {
	for c.version(time.Since(c.begun)) <= c.awaited.Version {
		if !sleep(ctx, 10*time.Millisecond) {
			return nil, serviceerror.NewDeadlineExceeded("context deadline exceeded")
		}
	}
	p, err := c.state(time.Since(c.begun))
	return &updatepb.Outcome{Value: &updatepb.Outcome_Success{Success: p}}, err
}

// take takes a sequence for a time and returns what came when.
func take(t *testing.T, s Strategy, c *clockwork, most time.Duration) (versions []int64, notices []*Notice) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	for e, err := range s.Watch(ctx, "wf", progress.Position{}) {
		n, isNotice := err.(*Notice)
		switch {
		case isNotice:
			notices = append(notices, n)
		case err == nil:
			versions = append(versions, e.Seq)
		case ctx.Err() == nil:
			t.Fatal(err)
		}
	}
	return versions, notices
}

func one(time.Duration) int64 { return 1 }
