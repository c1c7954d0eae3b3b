package workflows_test

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/message"
)

// Somebody claims the answer while no worker is there, and has gone when one
// is: Temporal has kept the claim. It is too late by then, so the workflow
// sends; or else nobody would answer.
func TestClaimOfSomebodyGone(t *testing.T) {
	o := newOffice(t, nil)
	var run client.WorkflowRun
	before := 0
	// On a busy machine the wait may be over before the reply is there.
	for wait, waits := 3*time.Second, false; !waits; wait *= 4 {
		before = len(o.sent())
		in := o.inbound("log 1h on apollo")
		in.Wait = wait
		run = o.converse(in)
		eventually(t, "reply", func() bool {
			snap, err := o.progress.Snapshot(t.Context(), run.GetID())
			waits = err == nil && snap.Message == "The reply waits for who asked."
			return waits || err == nil && snap.Closed()
		})
	}
	o.worker.Stop()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := o.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: run.GetID(), UpdateName: message.ClaimUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		left <- err
	}()
	eventually(t, "end of the wait", func() bool {
		history := o.client.GetWorkflowHistory(t.Context(), run.GetID(), "", false, 0)
		for history.HasNext() {
			event, err := history.Next()
			if err != nil {
				t.Fatal(err)
			}
			if event.GetTimerFiredEventAttributes() != nil {
				return true
			}
		}
		return false
	})
	leave()
	if err := <-left; err == nil {
		t.Fatal("there is a worker")
	}
	o.work()
	var result message.ConversationResult
	if err := o.get(run, &result); err != nil || !result.Sent || len(o.sent()) != before+1 {
		t.Errorf("%+v, %v, %q", result, err, o.sent())
	}
}
