package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/pkg/message"
)

// messaging names the activities; it is never called.
var messaging *activities.Messaging

// keeping is for activities that only read and write Redis.
func keeping(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		Summary:                summary,
		StartToCloseTimeout:    10 * time.Second,
		ScheduleToCloseTimeout: 10 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 15 * time.Second,
		},
	})
}

// thinking is for agents, which may ask a model.
func thinking(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		Summary:                summary,
		StartToCloseTimeout:    time.Minute,
		ScheduleToCloseTimeout: 3 * time.Minute,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 500 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second, MaximumAttempts: 5,
		},
	})
}

// sending is for messages: a reply that is an hour late is better than none.
func sending(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		Summary:                summary,
		StartToCloseTimeout:    activities.SendTimeout,
		HeartbeatTimeout:       activities.SendHeartbeat,
		ScheduleToCloseTimeout: time.Hour,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute,
		},
	})
}

// messageKey returns the key of the one message that a run sends whose ID is
// used for one message that came in. Whoever starts it again after Temporal
// has forgotten the first run gets no second reply, as long as intents are
// kept.
func messageKey(ctx workflow.Context) string {
	return workflow.GetInfo(ctx).WorkflowExecution.ID + "/1"
}

// intentKey returns the key of the nth message of this chain of runs, whose
// ID may be used again: the same for a run that was reset.
func intentKey(ctx workflow.Context, n int) string {
	info := workflow.GetInfo(ctx)
	// All of it: the first digits of a run ID are the time, of a minute.
	return fmt.Sprintf("%s/%s/%d", info.WorkflowExecution.ID, info.FirstRunID, n)
}

// send sends a message once.
func send(ctx workflow.Context, summary string, out message.Outgoing) (message.Receipt, error) {
	var r message.Receipt
	err := workflow.ExecuteActivity(sending(ctx, summary), messaging.Send, out).Get(ctx, &r)
	return r, err
}

// callback is where the carrier reports what becomes of this run's messages.
func callback(ctx workflow.Context, base string) string {
	return message.CallbackURL(base, workflow.GetInfo(ctx).WorkflowExecution.ID)
}
