package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/reporter"
)

// RemindMeName is the workflow type of [RemindMeWorkflow].
const RemindMeName = "RemindMeWorkflow"

// RemindMeInput is a reminder that somebody has asked for.
type RemindMeInput struct {
	At time.Time `json:"at"`
	// Text is what the person wants to be reminded of; "" is nothing in
	// particular.
	Text string `json:"text,omitempty"`
	// Message says who gets it, and how; its text and key are the workflow's.
	Message message.Outgoing `json:"message"`
}

// RemindMeWorkflow sends a reminder when it is due.
func RemindMeWorkflow(ctx workflow.Context, in RemindMeInput) (message.Receipt, error) {
	delivery := newDelivery(ctx)
	reporter.Workflow(ctx).Message("Waiting until " + in.At.Format("Mon 2 Jan 15:04 MST") + ".")
	if err := workflow.Sleep(ctx, in.At.Sub(workflow.Now(ctx))); err != nil {
		return message.Receipt{}, err
	}
	out := in.Message
	out.Text = "This is your reminder."
	if in.Text != "" {
		out.Text = "Reminder: " + in.Text
	}
	out.Key, out.StatusCallback = messageKey(ctx), callback(ctx, out.StatusCallback)
	receipt, err := send(ctx, "Send", out)
	if err != nil {
		return receipt, err
	}
	return delivery.await(ctx, out, receipt)
}
