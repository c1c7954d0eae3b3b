package message

import (
	"errors"
	"fmt"
)

// The classes of error of a send. The first three no retry can mend; after
// ErrUnavailable a retry is safe; after ErrUnknown the message has to be
// looked up before it is sent again.
var (
	// ErrOptedOut: the receiver wants no messages (Twilio's 21610).
	ErrOptedOut = errors.New("the receiver has opted out")
	// ErrBadNumber: the receiver's address cannot be reached, and never will.
	ErrBadNumber = errors.New("the receiver's number cannot be used")
	// ErrRefused: the carrier refuses the request for another reason.
	ErrRefused = errors.New("the carrier refused the message")
	// ErrUnavailable: the carrier cannot be reached, or has no room; surely
	// nothing was sent.
	ErrUnavailable = errors.New("the carrier is unavailable")
	// ErrUnknown: the carrier may have taken the message; no answer says so.
	ErrUnknown = errors.New("the outcome of the send is unknown")
)

// ErrCredentials is the cause of an [ErrRefused] that says nothing of the
// message: no message is sent until the operator has mended it.
var ErrCredentials = errors.New("the carrier does not know the credentials")

// Error is the error of a send. It names no address: what the carrier says
// often repeats it, so that text is left out.
type Error struct {
	// Class is one of the errors above.
	Class error
	// Code is Twilio's error code; 0 is none.
	Code int
	// HTTPStatus is the answer's; 0 where none came.
	HTTPStatus int
	// Cause is why no answer came, or what would help, where that is known.
	Cause error
}

// Error names the class, the code and where it is explained, and the cause.
func (e *Error) Error() string {
	text := e.Class.Error()
	switch {
	case e.Code != 0:
		text += fmt.Sprintf(": error %d, see https://www.twilio.com/docs/errors/%d", e.Code, e.Code)
	case e.HTTPStatus != 0:
		text += fmt.Sprintf(": HTTP status %d", e.HTTPStatus)
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap makes errors.Is find the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Cause}
}

// CodeOf returns Twilio's code of an error of a send; 0 is none.
func CodeOf(err error) int {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// Permanent reports whether no retry can mend the error.
func Permanent(err error) bool {
	return errors.Is(err, ErrOptedOut) || errors.Is(err, ErrBadNumber) || errors.Is(err, ErrRefused)
}
