package webhook_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
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

// No request leaves for these, however they are written.
func TestForbiddenAddresses(t *testing.T) {
	var arrived atomic.Int64
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	zone := &names{addrs: map[string][]netip.Addr{
		"inside.example.":   {netip.MustParseAddr("127.0.0.1")},
		"metadata.example.": {netip.MustParseAddr("169.254.169.254")},
	}, asked: make(map[string]int)}
	s := sender(t, webhook.Options{Resolver: zone.resolver(t), Timeout: 5 * time.Second})
	s.OnDial(func(address string) error {
		t.Errorf("%s would have been called", address)
		return errors.New("not in a test")
	})
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "localhost", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
		"10.0.0.1", "172.16.5.5", "192.168.1.1", "100.64.0.1", "[fd00::1]", "[fe80::1%25lo]",
		"169.254.169.254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]", "[fe80::a9fe:a9fe]", "100.100.100.200", "192.0.0.192",
		"[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[2001:0:7f00:1::]",
		"224.0.0.1", "255.255.255.255", "192.0.2.1", "inside.example", "metadata.example",
	} {
		e := refusal(t, s.Send(t.Context(), message("http://"+host+":"+port+"/")))
		if !e.Final || !strings.Contains(e.Reason, "RUNCAST_PUSH_ALLOW") {
			t.Errorf("%s: %+v", host, e)
		}
	}
	// These are no addresses to everybody; whatever they are, nothing leaves.
	for _, host := range []string{"2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "①②⑦.0.0.1"} {
		if e := refusal(t, s.Send(t.Context(), message("http://"+host+":"+port+"/"))); e.Reason == "" {
			t.Errorf("%s: %+v", host, e)
		}
	}
	if arrived.Load() > 0 {
		t.Errorf("%d requests have left", arrived.Load())
	}
}

// What counts is the address at the moment of the call, not what the name had
// before.
func TestRebindingIsCovered(t *testing.T) {
	var arrived atomic.Int64
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	zone := &names{addrs: map[string][]netip.Addr{
		"rebinds.example.": {netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("127.0.0.1")},
	}, asked: make(map[string]int)}
	s := sender(t, webhook.Options{Resolver: zone.resolver(t), Timeout: 5 * time.Second})
	var let []string
	s.OnDial(func(address string) error {
		let = append(let, address)
		return errors.New("not in a test")
	})
	url := "http://rebinds.example:" + port + "/"
	if e := refusal(t, s.Send(t.Context(), message(url))); e.Final {
		t.Errorf("while it is public: %+v", e)
	}
	e := refusal(t, s.Send(t.Context(), message(url)))
	if !e.Final || !strings.Contains(e.Reason, "127.0.0.1") {
		t.Errorf("once it is loopback: %+v", e)
	}
	if len(let) != 1 || let[0] != "8.8.8.8:"+port {
		t.Errorf("let through: %q", let)
	}
	if n := zone.count("rebinds.example."); n != 2 || arrived.Load() != 0 {
		t.Errorf("the name was asked for %d times, %d requests arrived", n, arrived.Load())
	}
}

func TestAllow(t *testing.T) {
	srv := receiver(t, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	zone := &names{addrs: map[string][]netip.Addr{
		"inside.example.":   {netip.MustParseAddr("127.0.0.1")},
		"metadata.example.": {netip.MustParseAddr("169.254.169.254")},
		"alibaba.example.":  {netip.MustParseAddr("100.100.100.200")},
		"oracle.example.":   {netip.MustParseAddr("192.0.0.192")},
	}, asked: make(map[string]int)}
	resolver := zone.resolver(t)
	for _, tt := range []struct {
		allow, host string
		ok          bool
	}{
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.1", "127.0.0.1", true},
		{"127.0.0.1", "[::ffff:127.0.0.1]", true},
		{"127.0.0.1:" + port, "127.0.0.1", true},
		{"127.0.0.1:1", "127.0.0.1", false},
		{"10.0.0.0/8", "127.0.0.1", false},
		{"inside.example:" + port, "inside.example", true},
		{"inside.example:" + port, "INSIDE.example", true},
		{"inside.example:1", "inside.example", false},
		{"inside.example:" + port, "127.0.0.1", false},
		{"metadata.example:" + port, "metadata.example", false},
		{"alibaba.example:" + port, "alibaba.example", false},
		{"oracle.example:" + port, "oracle.example", false},
	} {
		s := sender(t, webhook.Options{Allow: allow(t, tt.allow), Resolver: resolver})
		err := s.Send(t.Context(), message("http://"+tt.host+":"+port+"/"))
		if (err == nil) != tt.ok || err != nil && !strings.Contains(err.Error(), "RUNCAST_PUSH_ALLOW") {
			t.Errorf("%s with %s: %v", tt.host, tt.allow, err)
		}
	}
	for _, bad := range []string{"", "localhost", "10.0.0.0/33", "http://127.0.0.1:80", "a b:80", "host:nope", ":80", "fe80::1%lo"} {
		if _, err := webhook.ParseAllow(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestURLs(t *testing.T) {
	a := allow(t, "127.0.0.1:8081")
	s := sender(t, webhook.Options{Allow: a})
	s.OnDial(func(string) error { return errors.New("not in a test") })
	for _, tt := range []struct{ url, want string }{
		{"https://receiver.example/hook?a=b", ""},
		{"http://127.0.0.1:8081/", ""},
		{"http://127.0.0.1:8082/", "RUNCAST_PUSH_ALLOW"},
		{"http://169.254.169.254/latest/meta-data", "RUNCAST_PUSH_ALLOW"},
		{"https://[::ffff:169.254.169.254]/", "RUNCAST_PUSH_ALLOW"},
		{"https://user:hunter2@receiver.example/", "user or password"},
		{"https://user@receiver.example/", "user or password"},
		{"https://:p@169.254.169.254/", "user or password"},
		{"ftp://receiver.example/", "scheme"},
		{"file:///etc/passwd", "scheme"},
		{"gopher://127.0.0.1:6379/_FLUSHALL", "scheme"},
		{"receiver.example/hook", "scheme"},
		{"https:///hook", "no host"},
		{"https://", "no host"},
		{"http://[::1", "cannot be read"},
		{"http://a\r\nHost: b/", "cannot be read"},
		{"https://receiver.example/" + strings.Repeat("x", 2000), "2000 are allowed"},
	} {
		err := a.CheckURL(tt.url)
		if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want %q", tt.url, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is shown: %v", err)
		}
		if tt.want == "" {
			continue
		}
		if e := refusal(t, s.Send(t.Context(), message(tt.url))); !e.Final || !strings.Contains(e.Reason, tt.want) {
			t.Errorf("%.60q is sent to: %+v", tt.url, e)
		}
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

// A proxy of the environment would call what the guard has never seen.
func TestNoProxy(t *testing.T) {
	var asked atomic.Int64
	proxy := receiver(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	e := refusal(t, sender(t, webhook.Options{Allow: allow(t, proxy.Listener.Addr().String())}).Send(t.Context(), message("http://169.254.169.254/")))
	if !e.Final || asked.Load() > 0 {
		t.Errorf("%+v; the proxy was asked %d times", e, asked.Load())
	}
}
