package strategy

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	querypb "go.temporal.io/api/query/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/runcast/runcast/pkg/progress"
)

// signal signals a run, once.
func (c *calls) signal(ctx context.Context, id, runID, name string, arg any) error {
	dc := converter.WithDataConverterSerializationContext(c.converter, converter.WorkflowSerializationContext{
		Namespace: c.namespace, WorkflowID: id,
	})
	input, err := dc.ToPayloads(arg)
	if err != nil {
		return fmt.Errorf("%w: encode the signal: %w", progress.ErrInvalid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	_, err = c.service.SignalWorkflowExecution(ctx, &workflowservice.SignalWorkflowExecutionRequest{
		Namespace: c.namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: runID},
		SignalName: name, Input: input, Identity: "runcast", RequestId: rand.Text(),
	})
	if err != nil {
		return fmt.Errorf("signal the workflow: %w", err)
	}
	return nil
}

// metadataQuery is what every workflow of the SDKs answers.
const metadataQuery = "__temporal_workflow_metadata"

// takesSignal asks the run's code whether it takes a signal: sending one that
// nobody takes is no error.
func (c *calls) takesSignal(ctx context.Context, id string, r *run, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.service.QueryWorkflow(ctx, &workflowservice.QueryWorkflowRequest{
		Namespace: c.namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: r.id},
		Query: &querypb.WorkflowQuery{QueryType: metadataQuery},
	})
	switch {
	case isTimeout(err):
		return false, c.noAnswer(err)
	case err != nil:
		return false, fmt.Errorf("query what the workflow takes: %w", err)
	}
	dc := converter.WithDataConverterSerializationContext(c.converter, converter.WorkflowSerializationContext{
		Namespace: c.namespace, WorkflowID: id,
	})
	var m sdkpb.WorkflowMetadata
	if err := dc.FromPayloads(resp.GetQueryResult(), &m); err != nil {
		return false, fmt.Errorf("query what the workflow takes: %w", err)
	}
	return slices.ContainsFunc(m.GetDefinition().GetSignalDefinitions(), func(d *sdkpb.WorkflowInteractionDefinition) bool {
		return d.GetName() == name
	}), nil
}
