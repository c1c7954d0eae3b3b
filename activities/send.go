package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/conversation"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/reporter"
)

const (
	sendFor = 15 * time.Second
	// SendTimeout is how long one execution of [Messaging.Send] may take: it
	// may have to wait until an earlier attempt is surely over, and look.
	SendTimeout = 75 * time.Second
	// SendHeartbeat is after how long without a sign of life another worker
	// takes over.
	SendHeartbeat = 10 * time.Second
	// clocks is by how much the clocks of workers and carrier may differ.
	clocks = 2 * time.Second
)

// Send sends a message once, however often it is executed. A carrier like
// Twilio has no idempotency key, so the intent is recorded first, then one
// attempt is made. Where its outcome is unknown (no answer came, or the
// worker died between the send and its record) the message is looked up
// before anything is sent again.
func (m *Messaging) Send(ctx context.Context, out message.Outgoing) (message.Receipt, error) {
	defer heartbeat(ctx)()
	step := reporter.Activity(ctx).Step("")
	if gone, err := m.Store.OptedOut(ctx, out.To); err != nil {
		return message.Receipt{}, err
	} else if gone {
		return message.Receipt{}, failure(message.ErrOptedOut)
	}
	intent, err := m.Store.Begin(ctx, out, time.Time{})
	if err != nil {
		return message.Receipt{}, err
	}
	if intent.State == conversation.Attempted {
		step.Log("An earlier attempt has no known outcome; looking for its message before anything is sent again.")
		if intent, err = m.lookUp(ctx, out, intent); err != nil {
			return message.Receipt{}, err
		}
	}
	switch intent.State {
	case conversation.Sent:
		step.Message("was sent before")
		return m.Store.Receipt(ctx, intent.Receipt.SID)
	case conversation.Failed:
		return message.Receipt{}, temporal.NewNonRetryableApplicationError(intent.Reason, Refused, nil)
	case conversation.Attempting:
		return m.attempt(ctx, out, step)
	}
	return message.Receipt{}, errors.New("another attempt to send this message is under way")
}

// attempt makes the one attempt that the intent allows.
func (m *Messaging) attempt(ctx context.Context, out message.Outgoing, step *reporter.StepReporter) (message.Receipt, error) {
	sendCtx, cancel := context.WithTimeout(ctx, cmp.Or(m.SendFor, sendFor))
	r, err := m.carrier(out).Send(sendCtx, out)
	cancel()
	switch {
	case err == nil:
		step.Message(string(r.Status))
		return m.Store.Sent(ctx, out, activity.GetInfo(ctx).WorkflowExecution.ID, r)
	case message.Permanent(err):
		if errors.Is(err, message.ErrOptedOut) {
			// The carrier knew before us: somebody has answered STOP there.
			if err := m.Store.OptOut(ctx, out.To); err != nil {
				return r, err
			}
		}
		if errors.Is(err, message.ErrCredentials) {
			// The message is not at fault: once the operator has mended it, a
			// reset of the run sends it.
			if err := m.Store.Release(ctx, out); err != nil {
				return r, err
			}
			return r, failure(err)
		}
		if err := m.Store.Fail(ctx, out, err.Error()); err != nil {
			return r, err
		}
		return r, failure(err)
	case errors.Is(err, message.ErrUnavailable):
		return r, errors.Join(err, m.Store.Release(ctx, out))
	}
	return r, err // the intent stays as it is: the outcome is unknown
}

// lookUp returns the intent once it is known whether the earlier attempt has
// sent the message: Sent, or Attempting.
func (m *Messaging) lookUp(ctx context.Context, out message.Outgoing, intent conversation.Intent) (conversation.Intent, error) {
	// It may still be under way, on a worker that is only slow.
	over := intent.At.Add(cmp.Or(m.SendFor, sendFor) + clocks)
	if err := wait(ctx, time.Until(over)); err != nil {
		return intent, err
	}
	found, err := m.carrier(out).Find(ctx, out, intent.At.Add(-clocks))
	if err != nil {
		return intent, fmt.Errorf("look for the message of an earlier attempt: %w", err)
	}
	for _, r := range found {
		// The same text may have been sent to the same person for another
		// reason.
		switch of, err := m.Store.IntentOf(ctx, r.SID); {
		case err != nil:
			return intent, err
		case of == "" || of == out.Key:
			_, err := m.Store.Sent(ctx, out, activity.GetInfo(ctx).WorkflowExecution.ID, r)
			return conversation.Intent{State: conversation.Sent, At: intent.At, Receipt: r}, err
		}
	}
	return m.Store.Begin(ctx, out, intent.At)
}

// carrier returns what sends the message. What was typed into the page is
// answered there, and rings no telephone.
func (m *Messaging) carrier(out message.Outgoing) Messenger {
	if m.Carrier == nil || out.Channel == message.ChannelPage || out.Channel == message.ChannelEmail {
		return m.Store.Outbox()
	}
	return m.Carrier
}

// failure is an error that no retry mends, of the type that says why.
func failure(err error) error {
	kind := Refused
	switch {
	case errors.Is(err, message.ErrOptedOut):
		kind = OptedOut
	case errors.Is(err, message.ErrBadNumber):
		kind = BadNumber
	}
	return temporal.NewNonRetryableApplicationError(err.Error(), kind, nil)
}

// heartbeat gives signs of life until the function that it returns is called:
// a worker that died in the middle of a send should be missed soon.
func heartbeat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(SendHeartbeat / 3)
		defer tick.Stop()
		for {
			activity.RecordHeartbeat(ctx)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); beating.Wait() }
}
