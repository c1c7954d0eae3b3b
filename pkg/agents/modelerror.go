package agents

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/openai/openai-go/v3"
)

// ErrModelRefused is wrapped by errors of the endpoint that no retry mends:
// a wrong key, an unknown model.
var ErrModelRefused = errors.New("the model's endpoint refused the request")

// busy is an endpoint that wants to be left alone for some time.
type busy struct {
	status int
	after  time.Duration
}

func (b *busy) Error() string {
	return fmt.Sprintf("ask the model: HTTP status %d, to be asked again in %v", b.status, b.after)
}

// RetryAfter returns how long the endpoint asks to be left alone before a
// retry; 0 is as the caller likes.
func RetryAfter(err error) time.Duration {
	if b := (*busy)(nil); errors.As(err, &b) {
		return b.after
	}
	return 0
}

// classify leaves out what the endpoint says: it may repeat the message.
func classify(err error) error {
	var refused *openai.Error
	if !errors.As(err, &refused) {
		return fmt.Errorf("ask the model: %w", err)
	}
	s := refused.StatusCode
	if s >= 400 && s < 500 && s != http.StatusTooManyRequests && s != http.StatusRequestTimeout {
		return fmt.Errorf("%w: HTTP status %d", ErrModelRefused, s)
	}
	if refused.Response != nil {
		if after := retryAfter(refused.Response.Header.Get("Retry-After"), time.Now()); after > 0 {
			return &busy{s, after}
		}
	}
	return fmt.Errorf("ask the model: HTTP status %d", s)
}

// retryAfter reads the header: seconds, or a date. What cannot be read, or
// has passed, is 0.
func retryAfter(header string, now time.Time) time.Duration {
	const most = 24 * time.Hour // what a number may overflow in
	if seconds, err := strconv.ParseFloat(header, 64); err == nil && seconds > 0 {
		return time.Duration(min(seconds, most.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, min(at.Sub(now), most))
	}
	return 0
}
