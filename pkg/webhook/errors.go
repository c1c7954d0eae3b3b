package webhook

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// ErrReplaying: somebody else sends the dead letter right now.
var ErrReplaying = errors.New("the dead letter is being replayed already")

// Error is why a message was not taken.
type Error struct {
	// Reason is for people. It shows nothing secret.
	Reason string
	// Final says that the same message would be refused again: a wrong or
	// forbidden URL, a redirect, and most answers of the 4xx kind.
	Final bool
	// Status is that of the answer; 0: there was none.
	Status int
	// RetryAfter is how long the receiver asks to be left alone; 0: it does
	// not.
	RetryAfter time.Duration

	cause error
}

func (e *Error) Error() string { return e.Reason }

// Unwrap returns [context.Canceled] where the caller has broken the attempt off.
func (e *Error) Unwrap() error { return e.cause }

// Gone reports whether the receiver wants nothing any more.
func (e *Error) Gone() bool { return e.Status == http.StatusGone }

// final reports whether an answer with that status will stay the same.
func final(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status < 500
}

// maxRetryAfter bounds what a receiver may ask for.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		d = time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
