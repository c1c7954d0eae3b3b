package workflows_test

import (
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/message"
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
