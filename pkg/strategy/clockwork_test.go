package strategy

import (
	"context"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
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
	// events is the length of the history after the given time; nil: 3.
	events func(since time.Duration) int64
	// describing fails describes, querying hangs queries, while they say so.
	describing func(since time.Duration) error
	querying   func(since time.Duration) bool
	describes  []time.Duration
	queries    int
	// refusals are when a signal or an update was refused: all of them are,
	// but subscriptions where subscribed takes them. refusal says how; nil: the
	// server has too much to do.
	refusals   []time.Duration
	refusal    func(since time.Duration) error
	subscribed func(handlers.Subscription)
	// left are when a subscription was ended.
	left []time.Duration
	// refusing fails queries while it says so; queried is when they came.
	refusing func(since time.Duration) bool
	queried  []time.Duration
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
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
		HistoryLength: events,
		Execution:     &commonpb.WorkflowExecution{WorkflowId: "wf", RunId: "run"}, FirstRunId: "run",
		Type: &commonpb.WorkflowType{Name: "Bake"}, Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
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
	p, err := converter.GetDefaultDataConverter().ToPayloads(handlers.State{
		Started: c.begun.UnixMilli(), Version: c.version(since), RunID: "run", Chain: "run", Type: "Bake",
	})
	return &workflowservice.QueryWorkflowResponse{QueryResult: p}, err
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
	since := time.Since(c.begun)
	c.refusals = append(c.refusals, since)
	if c.refusal != nil {
		return c.refusal(since)
	}
	return errLimited
}

func (c *clockwork) UpdateWorkflowExecution(context.Context, *workflowservice.UpdateWorkflowExecutionRequest, ...grpc.CallOption) (*workflowservice.UpdateWorkflowExecutionResponse, error) {
	return nil, c.refuse()
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
