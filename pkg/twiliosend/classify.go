package twiliosend

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/twilio/twilio-go/client"

	"github.com/runcast/runcast/pkg/message"
)

// codes are Twilio's errors that say something of the receiver. All others
// are classed by their HTTP status.
var codes = map[int]error{
	21610: message.ErrOptedOut,

	21211: message.ErrBadNumber, // not a number
	21214: message.ErrBadNumber, // cannot be reached
	21217: message.ErrBadNumber, // does not look like one
	21265: message.ErrBadNumber, // a short code
	21266: message.ErrBadNumber, // the sender's own
	21612: message.ErrBadNumber, // no way from this sender to it
	21614: message.ErrBadNumber, // not a mobile
	21635: message.ErrBadNumber, // a landline
	63003: message.ErrBadNumber, // no WhatsApp address

	20429: message.ErrUnavailable, // too many requests
}

// classify turns what twilio-go returned, and what its transport saw, into a
// [*message.Error]. Twilio's text is left out: it often repeats the number.
func (t *transport) classify(err error) error {
	e := &message.Error{HTTPStatus: t.status}
	if answer := (*client.TwilioRestError)(nil); errors.As(err, &answer) {
		e.Code = answer.Code
		if e.HTTPStatus == 0 { // refused by twilio-go itself: nothing was sent
			e.Class = message.ErrRefused
			return e
		}
	}
	if class, ok := codes[e.Code]; ok {
		e.Class = class
		return e
	}
	switch s := e.HTTPStatus; {
	case s == 0 && !t.connected:
		e.Class, e.Cause = message.ErrUnavailable, cause(t.err)
	case s == 0:
		e.Class, e.Cause = message.ErrUnknown, cause(t.err)
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable:
		e.Class = message.ErrUnavailable
	case s == http.StatusRequestTimeout, s >= 500:
		// A gateway's answer says nothing of what happened behind it.
		e.Class = message.ErrUnknown
	case s == http.StatusUnauthorized:
		e.Class, e.Cause = message.ErrRefused, errCredentials
	case s >= 300:
		e.Class = message.ErrRefused
	default:
		e.Class, e.Cause = message.ErrUnknown, errors.New("the answer cannot be read")
	}
	return e
}

// errCredentials says what an operator can do.
var errCredentials = fmt.Errorf("%w: check that TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and TWILIO_API_SECRET, are those of one account",
	message.ErrCredentials)

// cause returns why no answer came, in words that hold no address: an error
// of net/http repeats the URL, which names the account and, when messages are
// listed, the receiver.
func cause(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return context.Canceled
	}
	return err
}
