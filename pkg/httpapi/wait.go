package httpapi

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/message"
)

// DefaultWait and MaxWait are how long a webhook waits for a reply: Twilio
// gives up after 15 s.
const (
	DefaultWait = 8 * time.Second
	MaxWait     = 14 * time.Second
)

// claimTime is kept of a wait for the last claim to come back: the workflow
// takes none any more by then, so that what has no answer has no effect.
const claimTime = time.Second

// The pauses between claims: short ones at first, since most replies are
// ready soon.
const (
	firstPause = 30 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// reply is what became of a wait.
type reply struct {
	// Mine reports whether the answer is to carry Text. If not, the workflow
	// sends the reply, or has sent it.
	Mine bool
	Text string
	// RunID is the conversation's.
	RunID string
}

// awaitReply starts the conversation of a message and waits for its reply.
// It claims the reply just before it returns, so that it is never given by
// both: what nobody claims in time the workflow sends. A message that comes
// again, because whoever had claimed the reply died with it, gets the same.
func (a *api) awaitReply(ctx context.Context, in message.ConversationInput) (reply, error) {
	began := time.Now()
	channel := string(in.Message.Channel)
	select {
	case a.waiting <- struct{}{}:
		defer func() { <-a.waiting }()
		in.Wait = a.Wait - claimTime
	default: // the workflow sends
	}
	run, again, err := a.converse(ctx, in)
	if err != nil {
		return reply{}, err
	}
	r := reply{RunID: run}
	if in.Wait == 0 && !again {
		a.metrics.replies.WithLabelValues(channel, "crowded").Inc()
		return r, nil
	}
	// Whoever came first with this message may have claimed the reply and died
	// with it, so that it is asked for also where too many wait.
	in.Wait = max(in.Wait, claimTime)
	// The workflow's clock for claims begins with the run. If that took long,
	// it would still take a claim when nobody here waits for it any more.
	startedAt := time.Now()
	if startedAt.Sub(began) > claimTime/2 {
		a.metrics.replies.WithLabelValues(channel, "handed_over").Inc()
		return r, nil
	}
	id := message.ConversationID(in.Message.Channel, in.Message.SID)
	// A claim under way is not given up because the client has gone: it might
	// be taken, and then it should at least be counted.
	claims, cancel := context.WithDeadline(context.WithoutCancel(ctx), began.Add(a.Wait))
	defer cancel()
	result := "handed_over"
	for pause := firstPause; ctx.Err() == nil && time.Since(startedAt) < in.Wait; pause = min(pause*3/2, lastPause) {
		var claimed message.Claim
		claimed, err = a.claim(claims, id)
		if err == nil {
			r.Mine, r.Text, result = claimed.Claimed, claimed.Reply, "answered"
			if !claimed.Claimed {
				r.Mine, r.Text, result = a.ended(claims, id)
			}
			break
		}
		if over(err) {
			r.Mine, r.Text, result = a.ended(claims, id)
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	if r.Mine && ctx.Err() != nil {
		result = "lost" // until Twilio asks again
	}
	a.metrics.replies.WithLabelValues(channel, result).Inc()
	return r, nil
}

// claim asks for the reply of a conversation, and for the right to give it.
// It is an error as long as the reply is not ready.
func (a *api) claim(ctx context.Context, id string) (message.Claim, error) {
	var c message.Claim
	update, err := a.Temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: message.ClaimUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = update.Get(ctx, &c)
	}
	return c, err
}

// over reports whether a claim failed because the run has closed.
func over(err error) bool {
	if notFound := (*serviceerror.NotFound)(nil); errors.As(err, &notFound) {
		return true
	}
	// The run closed while the claim was on its way.
	var failed *temporal.ApplicationError
	return errors.As(err, &failed) && failed.Type() == "AcceptedUpdateCompletedWorkflow"
}

// ended reads how a conversation ended: whether its reply was claimed, and
// so is the answer whenever the message comes again.
func (a *api) ended(ctx context.Context, id string) (mine bool, text, result string) {
	var r message.ConversationResult
	if err := a.Temporal.GetWorkflow(ctx, id, "").Get(ctx, &r); err != nil {
		// The log names no cause: a failure may repeat what was written.
		a.Logger.Warn("a conversation ended without a reply", "workflow_id", id)
		return false, "", "failed"
	}
	if r.Sent || r.Reply == "" {
		return false, "", "handed_over"
	}
	return true, r.Reply, "again"
}
