package workflows

import (
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/reporter"
)

// conversation is one run of [MultiAgentConversationWorkflow].
type conversation struct {
	in     message.ConversationInput
	result message.ConversationResult
	// ready says that the reply is there, settled that it is known who
	// answers with it.
	ready, settled bool
	delivery       *delivery
}

// MultiAgentConversationWorkflow answers a message. A router names what it is
// about, specialists do their parts at the same time, a composer writes the
// reply, and then it is sent: by whoever claims it in time
// ([message.ClaimUpdate]), or else by the workflow, never by both.
func MultiAgentConversationWorkflow(ctx workflow.Context, in message.ConversationInput) (message.ConversationResult, error) {
	c := &conversation{in: in, delivery: newDelivery(ctx)}
	err := workflow.SetUpdateHandlerWithOptions(ctx, message.ClaimUpdate, c.claim, workflow.UpdateHandlerOptions{
		Validator:   c.claimable,
		Description: "Takes over the answer; rejected until there is one.",
	})
	if err != nil {
		return c.result, err
	}
	if err := c.answer(ctx); err != nil {
		return c.result, err
	}
	if err := c.deliver(ctx); err != nil {
		return c.result, err
	}
	return c.result, handlers.AwaitAllFinished(ctx)
}

// answer has the reply written; "" is none.
func (c *conversation) answer(ctx workflow.Context) error {
	in, p := c.in.Message, reporter.Workflow(ctx)
	switch keywordOf(in) {
	case keywordStop:
		p.Message("The sender wants no messages.")
		// No reply: Twilio confirms it itself, and refuses ours.
		return workflow.ExecuteActivity(keeping(ctx, "Opt out"), messaging.OptOut, in.From).Get(ctx, nil)
	case keywordStart:
		p.Message("The sender wants messages again.")
		c.result.Reply = agents.Again
		return workflow.ExecuteActivity(keeping(ctx, "Opt in"), messaging.OptIn, in.From).Get(ctx, nil)
	case keywordHelp:
		c.result.Reply = agents.Help
		return nil
	}
	var known activities.Recalled
	if err := workflow.ExecuteActivity(keeping(ctx, "Recall"), messaging.Recall, in).Get(ctx, &known); err != nil {
		return err
	}
	if known.OptedOut && meansYes(in) {
		p.Message("The sender wants messages again.")
		c.result.Reply = agents.Again
		return workflow.ExecuteActivity(keeping(ctx, "Opt in"), messaging.OptIn, in.From).Get(ctx, nil)
	}
	if known.OptedOut {
		p.Message("The sender has opted out: nothing is sent.")
		return nil
	}
	task := agents.Task{
		Sender: in.From, Key: workflow.GetInfo(ctx).WorkflowExecution.ID, Text: in.Text,
		Now: known.Now, Zone: known.Zone, Memory: known.Memory,
	}
	p.Percent(10)
	if err := c.think(ctx, task, known.Awaiting); err != nil {
		return err
	}
	p.Percent(80)
	return workflow.ExecuteActivity(keeping(ctx, "Remember"), messaging.Remember, activities.RememberInput{
		Who: in.From, Key: task.Key, Turn: agents.Turn{At: in.ReceivedAt, Text: in.Text, Reply: c.result.Reply},
	}).Get(ctx, nil)
}

// think runs the agents. One that fails for good is a part of the reply: the
// others' parts are not lost with it.
func (c *conversation) think(ctx workflow.Context, task agents.Task, awaiting []string) error {
	p := reporter.Workflow(ctx)
	p.Message("The router reads the message.")
	routed, err := runAgent(ctx, agents.Router, task).get(ctx)
	if err != nil {
		return err
	}
	if len(routed.Intents) > 0 {
		p.Message(fmt.Sprintf("Specialists at work: %d.", len(routed.Intents)))
	}
	p.Percent(30)
	var running []running
	for _, name := range routed.Intents {
		running = append(running, runAgent(ctx, name, task))
	}
	for _, r := range running {
		f, err := r.get(ctx)
		if err != nil {
			return err
		}
		if f.Recorded {
			tellAwaiting(ctx, awaiting)
		}
		if err := c.remind(ctx, f.Reminders); err != nil {
			return err
		}
		task.Findings = append(task.Findings, f)
	}
	p.Percent(60)
	p.Message("The composer writes the reply.")
	composed, err := runAgent(ctx, agents.Composer, task).get(ctx)
	if err != nil {
		return err
	}
	if c.result.Reply = composed.Text; composed.Failed {
		c.result.Reply = agents.Join(task.Findings)
	}
	if c.result.Reply == "" {
		c.result.Reply = agents.Join([]agents.Finding{composed})
	}
	return nil
}

// running is an agent at work.
type running struct {
	name   agents.Name
	future workflow.Future
}

func runAgent(ctx workflow.Context, name agents.Name, task agents.Task) running {
	return running{name, workflow.ExecuteActivity(thinking(ctx, agentTitles[name]), messaging.RunAgent, activities.AgentInput{Agent: name, Task: task})}
}

// agentTitles are the agents' steps, as people see them.
var agentTitles = map[agents.Name]string{
	agents.Router: "Router", agents.Timesheet: "Timesheet agent", agents.Policy: "Policy agent",
	agents.Schedule: "Schedule agent", agents.Composer: "Composer",
}

// get returns what the agent found, or that it failed; its error is that of
// a canceled run.
func (r running) get(ctx workflow.Context) (agents.Finding, error) {
	var f agents.Finding
	err := r.future.Get(ctx, &f)
	if temporal.IsCanceledError(err) {
		return f, err
	}
	if err != nil {
		return agents.Finding{Agent: r.name, Failed: true}, nil
	}
	return f, nil
}

// tellAwaiting tells the runs that wait for the person's hours. Those that
// have ended are no trouble.
func tellAwaiting(ctx workflow.Context, ids []string) {
	for _, id := range ids {
		err := workflow.SignalExternalWorkflow(ctx, id, "", HoursSignal, nil).Get(ctx, nil)
		if err != nil {
			workflow.GetLogger(ctx).Debug("a run that waits for hours was not told", "workflow", id, "error", err)
		}
	}
}

// remind starts a run of its own for each reminder, which outlives this one.
// It goes to the sender, whatever the message says.
func (c *conversation) remind(ctx workflow.Context, reminders []agents.Reminder) error {
	for n, r := range reminders {
		ctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID:        fmt.Sprintf("%s-remind-%d", workflow.GetInfo(ctx).WorkflowExecution.ID, n+1),
			ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON,
			Memo:              map[string]any{"runcast.tags": []string{"messages"}},
		})
		in := RemindMeInput{At: r.At, Text: r.Text, Message: c.out("")}
		err := workflow.ExecuteChildWorkflow(ctx, RemindMeName, in).GetChildWorkflowExecution().Get(ctx, nil)
		var already *temporal.ChildWorkflowExecutionAlreadyStartedError
		if err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// out is a message to the sender, on the channel on which it was asked.
func (c *conversation) out(text string) message.Outgoing {
	in := c.in.Message
	return message.Outgoing{Channel: in.Channel, From: in.To, To: in.From, Text: text, StatusCallback: c.in.StatusCallback}
}

// claimable rejects claims before there is a reply. Rejected ones leave no
// trace in the history, so that one may ask often.
func (c *conversation) claimable() error {
	if !c.ready {
		return errors.New("the reply is not ready yet")
	}
	return nil
}

// claim gives the reply to the first who asks in time, unless the workflow
// sends it. Temporal keeps a claim for a worker that is away, longer than
// whoever made it waits: so one that comes after the wait counts for nothing.
func (c *conversation) claim(ctx workflow.Context) (message.Claim, error) {
	claimed := !c.settled && c.result.Reply != "" && c.waits(ctx) > 0
	c.settled = c.settled || claimed
	return message.Claim{Reply: c.result.Reply, Claimed: claimed}, nil
}

// waits returns for how long the reply may still be claimed.
func (c *conversation) waits(ctx workflow.Context) time.Duration {
	return c.in.Wait - workflow.Now(ctx).Sub(workflow.GetInfo(ctx).WorkflowStartTime)
}

// deliver waits for a claim, as long as somebody may, and else sends.
func (c *conversation) deliver(ctx workflow.Context) error {
	p := reporter.Workflow(ctx)
	c.ready = true
	if c.result.Reply == "" {
		c.settled = true
		p.Percent(100)
		return nil
	}
	if left := c.waits(ctx); left > 0 {
		p.Message("The reply waits for who asked.")
		if _, err := workflow.AwaitWithTimeout(ctx, left, func() bool { return c.settled }); err != nil {
			return err
		}
		if c.settled {
			p.Message("The reply was taken by who asked.")
			p.Percent(100)
			return nil
		}
	}
	c.settled = true
	p.Message("Sending the reply.")
	out := c.out(c.result.Reply)
	out.Key, out.StatusCallback = messageKey(ctx), callback(ctx, out.StatusCallback)
	receipt, err := send(ctx, "Send", out)
	if err != nil {
		return err
	}
	p.Percent(90)
	p.Message("Sent.")
	c.result.Sent = true
	c.result.Receipt, err = c.delivery.await(ctx, out, receipt)
	p.Percent(100)
	if err != nil || c.result.Receipt == receipt {
		return err
	}
	// An example of a change that does not break runs under way: those that
	// passed this point before it go on without the activity, and so do the
	// recorded histories of version 1.
	if workflow.GetVersion(ctx, "keep-delivery-status", workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	// The API keeps it, too, but its Redis may have been away.
	return workflow.ExecuteActivity(keeping(ctx, "Keep the status"), messaging.KeepStatus, c.result.Receipt).Get(ctx, nil)
}
