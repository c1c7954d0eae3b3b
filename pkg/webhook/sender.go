package webhook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Options of a [Sender]. Keys are required.
type Options struct {
	// Keys are the deployment's: each receiver's are made of them.
	Keys Keys
	// Allow names addresses that may be called beside public ones.
	Allow Allow
	// Timeout bounds one message: name, connection, answer; 0 is [DefaultTimeout].
	Timeout time.Duration
	// Resolver finds the addresses of names; nil is the system's.
	Resolver *net.Resolver
}

// DefaultTimeout is how long a receiver may take.
const DefaultTimeout = 10 * time.Second

const (
	// maxAnswer bounds what is read of an answer, its headers by themselves.
	maxAnswer = 64 << 10
	// drainFor bounds how long an answer's body is read, which nobody needs:
	// it only lets the connection be used again.
	drainFor = time.Second
)

// Sender sends webhooks. It is safe for use by many goroutines.
type Sender struct {
	o      Options
	dialer *net.Dialer
	// transport is used by itself: a client would follow redirects.
	transport *http.Transport
}

// NewSender returns a sender. Close it.
func NewSender(o Options) (*Sender, error) {
	if o.Keys.Empty() {
		return nil, errors.New("webhook: there is no secret to sign with; set RUNCAST_PUSH_SECRETS")
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	s := &Sender{o: o}
	s.dialer = &net.Dialer{Timeout: o.Timeout, Resolver: o.Resolver, ControlContext: newGuard(o.Allow).control}
	s.transport = &http.Transport{
		// Never a proxy: it would make the connection in our place, and nobody
		// would check where to.
		Proxy: nil,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			d := &dial{name: address}
			conn, err := s.dialer.DialContext(context.WithValue(ctx, dialKey{}, d), network, address)
			if errors.Is(err, errForbidden) && d.let.Load() {
				// A dialer tells of its first address, but those that may be
				// called count: they may be well again soon.
				err = errUnreached
			}
			return conn, err
		},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    o.Timeout,
		MaxIdleConns:           100,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: maxAnswer,
		// What is small on the way may be large once unpacked.
		DisableCompression: true,
	}
	return s, nil
}

// Close closes the connections that are kept for further messages.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

// Send sends a message once. An error is an [*Error].
func (s *Sender) Send(ctx context.Context, m Message) error {
	u, err := parseURL(m.URL)
	if err != nil {
		return &Error{Reason: err.Error(), Final: true}
	}
	if err := CheckID(m.ID); err != nil {
		return &Error{Reason: err.Error(), Final: true}
	}
	if len(m.Body) > MaxBody {
		return &Error{Reason: fmt.Sprintf("the message has %d bytes; %d are allowed", len(m.Body), MaxBody), Final: true}
	}
	within := s.o.Timeout
	if deadline, ok := ctx.Deadline(); ok {
		within = min(within, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return &Error{Reason: "the webhook's URL cannot be called", Final: true, cause: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "runcast-webhook")
	keys, err := s.o.Keys.For(m.URL)
	if err != nil {
		return &Error{Reason: err.Error(), Final: true, cause: err}
	}
	if err := keys.Sign(req.Header, m.ID, time.Now(), m.Body); err != nil {
		return &Error{Reason: err.Error(), Final: true, cause: err}
	}
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return failed(ctx, u, within, err)
	}
	text := drain(res.Body)
	return answered(u, res, text)
}

// errUnreached is the dial's of a name that has forbidden addresses too.
var errUnreached = errors.New("none of its addresses that may be called can be reached")

// failed says why the URL has not answered within that time.
func failed(ctx context.Context, u *url.URL, within time.Duration, err error) *Error {
	place := hostPort(u)
	var dns *net.DNSError
	switch {
	case errors.Is(err, errForbidden):
		return &Error{Reason: fmt.Sprintf("%s: %v", place, unwrapTo(err, errForbidden)), Final: true, cause: err}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Reason: fmt.Sprintf("%s did not answer within %v", place, within.Round(10*time.Millisecond)), cause: err}
	case ctx.Err() != nil:
		return &Error{Reason: "the attempt was broken off before " + place + " answered", cause: ctx.Err()}
	case errors.As(err, &dns):
		return &Error{Reason: fmt.Sprintf("the name of %s cannot be looked up: %s", place, dns.Err), cause: err}
	}
	var op *net.OpError
	why := err
	if errors.As(err, &op) {
		why = op.Err
	}
	return &Error{Reason: fmt.Sprintf("%s: %s", place, printable(withoutValues(why.Error(), u))), cause: err}
}

// unwrapTo returns the outermost error in the chain that names target itself,
// without what dialers and clients put in front of it.
func unwrapTo(err, target error) error {
	for inner := errors.Unwrap(err); inner != nil && errors.Is(inner, target) && inner != target; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// drain reads an answer's body within bounds, and closes it.
func drain(body io.ReadCloser) []byte {
	timer := time.AfterFunc(drainFor, func() { body.Close() })
	defer timer.Stop()
	defer body.Close()
	text, _ := io.ReadAll(io.LimitReader(body, maxAnswer)) // the status has said all that counts
	return text
}

// answered returns what the URL's answer means; nil: the message was taken.
func answered(u *url.URL, res *http.Response, text []byte) error {
	status, line := res.StatusCode, printable(withoutValues(res.Status, u))
	switch {
	case status >= 200 && status < 300:
		return nil
	case status >= 300 && status < 400:
		return &Error{
			Reason: fmt.Sprintf("the receiver answers %s, to %q: redirects are not followed; give the URL that takes the message itself", line, printable(location(u, res.Header))),
			Final:  true, Status: status,
		}
	}
	reason := "the receiver answers " + line
	if first := printable(withoutValues(string(text), u)); first != "" {
		reason += ": " + first
	}
	return &Error{Reason: reason, Final: final(status), Status: status, RetryAfter: retryAfter(res.Header.Get("Retry-After"), time.Now())}
}

// location returns where a redirect of the URL leads, redacted: it often repeats
// the query. "" is nowhere.
func location(u *url.URL, h http.Header) string {
	to := h.Get("Location")
	if to == "" {
		return ""
	}
	if absolute, err := u.Parse(to); err == nil {
		to = absolute.String()
	}
	return withoutValues(Redacted(to), u)
}

// printable returns a stranger's text as one short line.
func printable(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return -1
		case unicode.IsPrint(r):
			return r
		}
		return ' '
	}, text))
}
