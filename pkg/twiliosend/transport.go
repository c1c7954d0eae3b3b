package twiliosend

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
)

// maxAnswer bounds what is read of an answer: a thousand listed messages of
// the longest kind.
const maxAnswer = 8 << 20

// transport makes the requests of one attempt, and sees what became of them.
// It belongs to one goroutine.
type transport struct {
	ctx  context.Context
	base *url.URL // nil leaves the URL as it is
	next http.RoundTripper

	// connected reports whether a connection was had: from then on the request
	// may have arrived.
	connected bool
	// status is the answer's; 0 is none.
	status int
	// err is why there is none.
	err error
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := httptrace.WithClientTrace(t.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { t.connected = true },
	})
	r = r.Clone(ctx)
	if t.base != nil {
		r.URL.Scheme, r.URL.Host, r.Host = t.base.Scheme, t.base.Host, ""
		r.URL.Path = strings.TrimSuffix(t.base.Path, "/") + r.URL.Path
		r.URL.RawPath = ""
	}
	res, err := t.next.RoundTrip(r)
	if err != nil {
		t.err = err
		return nil, err
	}
	t.status = res.StatusCode
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	return res, nil
}
