package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/workflows"
)

// No answer came, but the carrier had taken the message: it is looked up, and
// not sent again.
func TestUnknownOutcomeThatWasSent(t *testing.T) {
	c := &carrier{after: func(int) error { return errClass(message.ErrUnknown, 0) }}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	got := o.ask("hello")
	if !got.Sent || c.attempts != 1 || c.count() != 1 || got.Receipt.SID != c.receipt(1).SID {
		t.Errorf("%+v after %d attempts, %d taken", got, c.attempts, c.count())
	}
}

// No answer came, and the carrier had not taken it: looked up, it is sent.
func TestUnknownOutcomeThatWasNotSent(t *testing.T) {
	c := &carrier{before: func(n int) error {
		if n == 1 {
			return errClass(message.ErrUnknown, 0)
		}
		return nil
	}}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	if got := o.ask("hello"); !got.Sent || c.attempts != 2 || c.count() != 1 {
		t.Errorf("%+v after %d attempts, %d taken", got, c.attempts, c.count())
	}
}

// The carrier was surely not reached: it is tried again at once, without a
// look.
func TestUnavailable(t *testing.T) {
	c := &carrier{before: func(n int) error {
		if n < 3 {
			return errClass(message.ErrUnavailable, 0)
		}
		return nil
	}}
	o := newOffice(t, func(o *office) { o.m.Carrier, o.m.SendFor = c, 10*time.Minute }) // a look would wait as long
	if got := o.ask("hello"); !got.Sent || c.attempts != 3 || c.count() != 1 {
		t.Errorf("%+v after %d attempts, %d taken", got, c.attempts, c.count())
	}
}

// The same text was sent to the same person just before, for another message:
// what is found of that one is not taken for the reply to this.
func TestUnknownOutcomeOfTheSameText(t *testing.T) {
	for name, taken := range map[string]bool{"sent": true, "not sent": false} {
		t.Run(name, func(t *testing.T) {
			unknown := func(n int) error {
				if n == 2 {
					return errClass(message.ErrUnknown, 0)
				}
				return nil
			}
			c := &carrier{before: unknown}
			if taken {
				c = &carrier{after: unknown}
			}
			o := newOffice(t, func(o *office) { o.m.Carrier = c })
			first, second := o.ask("hello"), o.ask("hello")
			if c.count() != 2 || first.Receipt.SID != c.receipt(1).SID || second.Receipt.SID != c.receipt(2).SID {
				t.Errorf("%d messages; %+v, %+v", c.count(), first, second)
			}
		})
	}
}

// A message comes again after Temporal has forgotten its run, since the
// retention of the namespace is over. Nothing forbids another run then, as
// nothing does here; but nothing is sent, recorded or set twice.
func TestMessageComesAgainAfterRetention(t *testing.T) {
	o := newOffice(t, nil)
	in := o.inbound("log 8h on apollo and remind me in 2 hours to stretch")
	first := ""
	for range 2 {
		run := o.converse(in)
		var result message.ConversationResult
		if err := o.get(run, &result); err != nil || !result.Sent || !strings.HasPrefix(result.Reply, "Recorded 8 h on apollo today.\n") || run.GetRunID() == first {
			t.Fatalf("%+v, %v", result, err)
		}
		first = run.GetRunID()
		if err := o.client.TerminateWorkflow(t.Context(), run.GetID()+"-remind-1", "", "the test is over"); err != nil {
			t.Errorf("there is no reminder: %v", err)
		}
	}
	if got := o.sent(); len(got) != 1 {
		t.Errorf("sent %q", got)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	if got, err := o.store.Between(t.Context(), ada, today, today); err != nil || len(got) != 1 || got[0].Hours != 8 {
		t.Errorf("hours = %+v, %v", got, err)
	}
	if turns, err := o.store.Memory(t.Context(), ada); err != nil || len(turns) != 1 {
		t.Errorf("memory = %+v, %v", turns, err)
	}
}

// A reminder that was set by such a message is sent once, too.
func TestReminderComesAgainAfterRetention(t *testing.T) {
	o := newOffice(t, nil)
	in := workflows.RemindMeInput{At: time.Now(), Text: "stretch", Message: message.Outgoing{Channel: message.ChannelSMS, To: ada}}
	for range 2 {
		if err := o.get(o.start(workflows.RemindMeName, o.queue+"-remind-1", in), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.sent(); len(got) != 1 {
		t.Errorf("sent %q", got)
	}
}

// A reminder of hours is another one each day, under the same ID.
func TestReminderOfAnotherDay(t *testing.T) {
	o := newOffice(t, nil)
	id := "reminder-" + testenv.Prefix(t)
	for range 2 {
		in := message.ReminderInput{Channel: message.ChannelSMS, To: ada, Wait: 10 * time.Millisecond, Reminders: 1}
		if err := o.get(o.start(message.ReminderWorkflow, id, in), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.sent(); len(got) != 2 {
		t.Errorf("sent %q", got)
	}
}
