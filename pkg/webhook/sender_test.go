package webhook_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/webhook"
)

const secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

func keys(t *testing.T, secrets ...string) webhook.Keys {
	t.Helper()
	k, err := webhook.ParseKeys(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func allow(t *testing.T, entries ...string) webhook.Allow {
	t.Helper()
	a, err := webhook.ParseAllow(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sender returns one that may call loopback unless the options say otherwise.
func sender(t *testing.T, o webhook.Options) *webhook.Sender {
	t.Helper()
	if o.Keys.Empty() {
		o.Keys = keys(t, secret)
	}
	s, err := webhook.NewSender(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func receiver(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func message(url string) webhook.Message {
	return webhook.Message{ID: "msg_1", URL: url, Body: []byte(`{"type":"test"}`)}
}

// refusal returns the error as what it must be.
func refusal(t *testing.T, err error) *webhook.Error {
	t.Helper()
	var refused *webhook.Error
	if !errors.As(err, &refused) {
		t.Fatalf("the error is %v, a %T", err, err)
	}
	return refused
}

func TestSendSigns(t *testing.T) {
	got := make(chan error, 1)
	s := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		id := ""
		if err == nil {
			var k webhook.Keys
			if k, err = keys(t, secret).For("http://" + r.Host + r.URL.Path); err == nil {
				id, err = k.Verify(r.Header, body)
			}
		}
		if err == nil && (id != "msg_1" || string(body) != `{"type":"test"}` || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json") {
			err = fmt.Errorf("%s %s %v: %s", r.Method, id, r.Header, body)
		}
		got <- err
	})
	if err := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message(s.URL)); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		status     int
		retryAfter string
		ok, final  bool
		wait       time.Duration
		reason     string
	}{
		{status: 200, ok: true},
		{status: 204, ok: true},
		{status: 400, final: true, reason: "400 Bad Request: no"},
		{status: 401, final: true},
		{status: 404, final: true},
		{status: 410, final: true, reason: "410"},
		{status: 408},
		{status: 425},
		{status: 429, retryAfter: "7", wait: 7 * time.Second},
		{status: 500, reason: "500"},
		{status: 503, retryAfter: time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), wait: time.Hour},
		{status: 503, retryAfter: "999999999999", wait: 24 * time.Hour},
		{status: 503, retryAfter: "-5"},
		{status: 503, retryAfter: "-13835058055"}, // in nanoseconds it would wrap round
		{status: 503, retryAfter: "-9223372036854775808"},
		{status: 503, retryAfter: "soon"},
	} {
		t.Run(fmt.Sprint(tt.status, tt.retryAfter), func(t *testing.T) {
			srv := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
				if tt.status != 204 {
					fmt.Fprint(w, "no\x00\n")
				}
			})
			err := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message(srv.URL))
			if tt.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := refusal(t, err)
			if e.Final != tt.final || e.Status != tt.status || e.Gone() != (tt.status == 410) || !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("%+v", e)
			}
			if d := e.RetryAfter - tt.wait; d < -5*time.Second || d > 0 {
				t.Errorf("it asks for %v, want %v", e.RetryAfter, tt.wait)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Bool
	target := receiver(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{target.URL, "http://%zz", ""} {
			srv := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", location)
				w.WriteHeader(status)
			})
			e := refusal(t, sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message(srv.URL)))
			if !e.Final || !strings.Contains(e.Reason, "redirects are not followed") {
				t.Errorf("%d to %q: %+v", status, location, e)
			}
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

// What a receiver answers is repeated within bounds, and as text, also where it
// is the first line of the answer.
func TestReasonsAreShortText(t *testing.T) {
	for _, status := range []int{200, 307, 400, 500} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				fmt.Fprintf(c, "HTTP/1.1 %d \x1b[31m%s\r\nLocation: http://x/%[2]s\r\nContent-Length: 0\r\n\r\n", status, strings.Repeat("y", 30<<10))
			}
		})
		err = sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message("http://"+l.Addr().String()+"/"))
		l.Close()
		serving.Wait()
		if status == 200 {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if e := refusal(t, err); e.Status != status || len(e.Reason) > 1000 || strings.Contains(e.Reason, "\x1b") {
			t.Errorf("%d: %d bytes, %.300q", status, len(e.Reason), e.Reason)
		}
	}
}

// The bound may be the caller's, whose end is no failure of the receiver's.
func TestCallersContext(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 2)
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release })
	defer close(release)
	s := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if e := refusal(t, s.Send(ctx, message(srv.URL))); !strings.Contains(e.Reason, "did not answer within") || strings.Contains(e.Reason, "within 10s") {
		t.Errorf("a deadline of the caller: %+v", e)
	}
	<-arrived
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { <-arrived; cancel() }()
	if e := refusal(t, s.Send(ctx, message(srv.URL))); !errors.Is(e, context.Canceled) || e.Final {
		t.Errorf("canceled: %+v", e)
	}
}

// Standard Webhooks signs "ID.time.body": an ID with a point could be taken for
// the beginning of another message.
func TestIDs(t *testing.T) {
	var arrived atomic.Int64
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	s := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")})
	k := keys(t, secret)
	for _, id := range []string{"", "a.1", "a b", "a\r\nb", "ä", strings.Repeat("x", webhook.MaxID+1)} {
		m := message(srv.URL)
		m.ID = id
		if e := refusal(t, s.Send(t.Context(), m)); !e.Final || !strings.Contains(e.Reason, "ID") {
			t.Errorf("%.20q is sent: %+v", id, e)
		}
		if err := k.Sign(make(http.Header), id, time.Now(), nil); err == nil {
			t.Errorf("%.20q is signed", id)
		}
	}
	if arrived.Load() > 0 {
		t.Error("a message has left")
	}
	m := message(srv.URL)
	m.ID = strings.Repeat("x", webhook.MaxID)
	if err := s.Send(t.Context(), m); err != nil {
		t.Error(err)
	}
	// What is signed for one ID and time is not taken for another ID.
	at := time.Now()
	h := signed(t, k, at, fmt.Sprintf("%d.{}", at.Unix()))
	h.Set("webhook-id", fmt.Sprintf("msg_1.%d", at.Unix()))
	if id, err := k.Verify(h, []byte("{}")); err == nil {
		t.Errorf("a part of a body was taken, as %q", id)
	}
}

func TestSlowAnswerIsBounded(t *testing.T) {
	const timeout = 200 * time.Millisecond
	release := make(chan struct{})
	silent := receiver(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	dripping := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		for { // never the end of its body
			if _, err := w.Write([]byte(".")); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-release:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	defer close(release)
	s := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1"), Timeout: timeout})
	began := time.Now()
	e := refusal(t, s.Send(t.Context(), message(silent.URL)))
	if e.Final || !strings.Contains(e.Reason, "did not answer within 200ms") {
		t.Errorf("silence: %+v", e)
	}
	// Its status says that the message was taken; the rest is nobody's business.
	if err := s.Send(t.Context(), message(dripping.URL)); err != nil {
		t.Errorf("an answer without an end: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("both took %v", took)
	}
}

// A connection that takes part in nothing is bounded, too, and so is TLS.
func TestSilentConnectionIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1"), Timeout: 100 * time.Millisecond})
	for _, scheme := range []string{"http", "https"} {
		if e := refusal(t, s.Send(t.Context(), message(scheme+"://"+l.Addr().String()))); e.Final {
			t.Errorf("%s: %+v", scheme, e)
		}
	}
}

func TestLargeAnswerIsNotRead(t *testing.T) {
	for _, status := range []int{200, 500} {
		sent := make(chan int, 1)
		srv := receiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			n, chunk := 0, []byte(strings.Repeat("x", 32<<10))
			for n < 10<<20 {
				k, err := w.Write(chunk)
				n += k
				if err != nil {
					break
				}
			}
			sent <- n
		})
		err := sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message(srv.URL))
		if (status == 200) != (err == nil) {
			t.Errorf("%d: %v", status, err)
		} else if err != nil && len(err.Error()) > 400 {
			t.Errorf("the reason has %d bytes", len(err.Error()))
		}
		// Sockets take some megabytes that nobody reads.
		if n := <-sent; n >= 10<<20 {
			t.Errorf("%d: all of the answer was taken", status)
		}
	}
}

func TestLargeHeaderIsNotRead(t *testing.T) {
	srv := receiver(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) })
	if e := refusal(t, sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message(srv.URL))); e.Final {
		t.Errorf("%+v", e)
	}
}

func TestConnectionRefusedIsRetried(t *testing.T) {
	srv := receiver(t, func(http.ResponseWriter, *http.Request) {})
	url := srv.URL
	srv.Close()
	e := refusal(t, sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), message(url)))
	if e.Final || !strings.Contains(e.Reason, "refused") {
		t.Errorf("%+v", e)
	}
	m := message(url)
	m.Body = make([]byte, webhook.MaxBody+1)
	if e := refusal(t, sender(t, webhook.Options{Allow: allow(t, "127.0.0.1")}).Send(t.Context(), m)); !e.Final {
		t.Errorf("a body that is too long: %+v", e)
	}
}
