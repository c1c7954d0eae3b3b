package twiliosend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/message"
)

const (
	account = "AC0123456789abcdef0123456789abcdef"
	sid     = "SM0123456789abcdef0123456789abcdef"
	number  = "+61491570156"
)

// serve answers as Twilio would, and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc, change ...func(*Options)) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o := Options{AccountSID: account, AuthToken: "token", From: "+15005550006", BaseURL: s.URL + "/under/", Transport: transport}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func outgoing() message.Outgoing {
	return message.Outgoing{Channel: message.ChannelSMS, To: number, Text: "a & b\n👩‍🚒", Key: "sms-1/1", StatusCallback: "https://a.example/status?workflow=sms-1"}
}

func TestSend(t *testing.T) {
	var got url.Values
	var path, user, password string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		got, path = r.PostForm, r.URL.Path
		user, password, _ = r.BasicAuth()
		w.WriteHeader(201)
		fmt.Fprintf(w, `{"sid":%q,"status":"queued","error_code":null}`, sid)
	})
	m := outgoing()
	for _, tt := range []struct {
		name   string
		change func(*message.Outgoing, *Client)
		want   url.Values
		user   string
	}{
		{"the default sender", func(*message.Outgoing, *Client) {}, url.Values{"From": {"+15005550006"}}, account},
		{"its own sender", func(m *message.Outgoing, _ *Client) { m.From = "+15005550007" }, url.Values{"From": {"+15005550007"}}, account},
		{"a service", func(_ *message.Outgoing, c *Client) { c.o.From = "MG" + account[2:] }, url.Values{"MessagingServiceSid": {"MG" + account[2:]}}, account},
		{"WhatsApp", func(m *message.Outgoing, c *Client) {
			m.Channel, m.To, c.o.WhatsAppFrom = message.ChannelWhatsApp, "whatsapp:"+number, "whatsapp:+14155238886"
		}, url.Values{"From": {"whatsapp:+14155238886"}, "To": {"whatsapp:" + number}}, account},
		{"no callback", func(m *message.Outgoing, _ *Client) { m.StatusCallback = "" }, url.Values{"From": {"+15005550006"}, "StatusCallback": nil}, account},
		{"a key", func(_ *message.Outgoing, c *Client) { c.o.APIKey, c.o.APISecret = "SK1", "secret" }, url.Values{"From": {"+15005550006"}}, "SK1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, c := m, &Client{o: c.o, base: c.base}
			tt.change(&m, c)
			want := url.Values{"To": {number}, "Body": {m.Text}, "StatusCallback": {m.StatusCallback}}
			for name, values := range tt.want {
				want[name] = values
				if values == nil {
					delete(want, name)
				}
			}
			receipt, err := c.Send(t.Context(), m)
			if err != nil || receipt != (message.Receipt{SID: sid, Status: message.StatusQueued}) {
				t.Fatalf("got %+v, %v", receipt, err)
			}
			if got.Encode() != want.Encode() || path != "/under/2010-04-01/Accounts/"+account+"/Messages.json" || user != tt.user || password == "" {
				t.Errorf("sent %v to %s as %s, want %v", got, path, user, want)
			}
		})
	}
	m.From, c.o.From = "", ""
	if _, err := c.Send(t.Context(), m); !errors.Is(err, message.ErrRefused) || !strings.Contains(err.Error(), "TWILIO_FROM") {
		t.Errorf("without a sender: %v", err)
	}
}

// What each failure means, and that it names nobody.
func TestClasses(t *testing.T) {
	twilio := func(status, code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"code":%d,"message":"The 'To' number %s is not valid","status":%d}`, code, number, status)
		}
	}
	text := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://elsewhere.example/"+number)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, tt := range []struct {
		name   string
		h      http.HandlerFunc
		class  error
		code   int
		status int
	}{
		{"opted out", twilio(400, 21610), message.ErrOptedOut, 21610, 400},
		{"bad number", twilio(400, 21211), message.ErrBadNumber, 21211, 400},
		{"no mobile", twilio(400, 21614), message.ErrBadNumber, 21614, 400},
		{"landline", twilio(400, 21635), message.ErrBadNumber, 21635, 400},
		{"text too long", twilio(400, 21617), message.ErrRefused, 21617, 400},
		{"wrong token", twilio(401, 20003), message.ErrRefused, 20003, 401},
		{"a key that is none", text(401, ""), message.ErrRefused, 0, 401},
		{"not found", twilio(404, 20404), message.ErrRefused, 20404, 404},
		{"too many", twilio(429, 20429), message.ErrUnavailable, 20429, 429},
		{"too many, from a proxy", text(429, "slow down"), message.ErrUnavailable, 0, 429},
		{"away", text(503, "<html>"), message.ErrUnavailable, 0, 503},
		{"error", twilio(500, 20500), message.ErrUnknown, 20500, 500},
		{"bad gateway", text(502, "<html>"), message.ErrUnknown, 0, 502},
		{"gateway timeout", text(504, ""), message.ErrUnknown, 0, 504},
		{"redirect", text(302, ""), message.ErrRefused, 0, 302},
		{"a page", text(200, "<html>"), message.ErrUnknown, 0, 200},
		{"no SID", text(201, "{}"), message.ErrUnknown, 0, 201},
		{"half an answer", text(201, `{"sid":"SM`), message.ErrUnknown, 0, 201},
		{"cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, message.ErrUnknown, 0, 0},
		{"silent", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, message.ErrUnknown, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var requests atomic.Int32
			c := serve(t, func(w http.ResponseWriter, r *http.Request) { requests.Add(1); tt.h(w, r) },
				func(o *Options) { o.Timeout = 500 * time.Millisecond })
			_, err := c.Send(t.Context(), outgoing())
			e := (*message.Error)(nil)
			if !errors.As(err, &e) || e.Class != tt.class || e.Code != tt.code || e.HTTPStatus != tt.status {
				t.Errorf("got %#v", e)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("%d requests", n)
			}
			if credentials := tt.status == 401; credentials != errors.Is(err, message.ErrCredentials) || credentials && !strings.Contains(err.Error(), "TWILIO_AUTH_TOKEN") {
				t.Errorf("it does not say what helps: %v", err)
			}
			if strings.Contains(err.Error(), "491570156") {
				t.Errorf("it names the number: %v", err)
			}
		})
	}
}

// No connection, no message: that is sure.
func TestNotConnected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := serve(t, nil, func(o *Options) { o.BaseURL = "http://" + l.Addr().String() })
	_, err = c.Send(t.Context(), outgoing())
	if !errors.Is(err, message.ErrUnavailable) || strings.Contains(err.Error(), account) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Find(t.Context(), outgoing(), time.Now()); !errors.Is(err, message.ErrUnavailable) || strings.Contains(err.Error(), "491570156") {
		t.Errorf("got %v", err)
	}
}

// Who is told to stop in the middle does not know.
func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	if _, err := c.Send(ctx, outgoing()); !errors.Is(err, message.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFind(t *testing.T) {
	since := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return since.Add(d).Format(time.RFC1123Z) }
	item := func(sid, body, direction, created string) string {
		return fmt.Sprintf(`{"sid":%q,"body":%q,"direction":%q,"date_created":%q,"date_sent":null,"status":"sent","error_code":null}`, sid, body, direction, created)
	}
	const text = "hello\n"
	for _, tt := range []struct {
		name  string
		items []string
		want  string
		err   error
	}{
		{"none", nil, "", nil},
		{"there", []string{item("SM2", "other", "outbound-api", at(9)), item("SM1", text, "outbound-api", at(time.Second))}, "SM1", nil},
		{"trimmed", []string{item("SM1", "hello", "outbound-api", at(time.Second))}, "SM1", nil},
		{"of a trial account", []string{item("SM1", trialPrefix+"hello", "outbound-api", at(time.Second))}, "SM1", nil},
		{"Twilio's clock is behind", []string{item("SM1", text, "outbound-api", at(-10*time.Second))}, "SM1", nil},
		{"two, the oldest first", []string{item("SM2", text, "outbound-api", at(2*time.Second)), item("SM1", text, "outbound-api", at(time.Second))}, "SM1 SM2", nil},
		{"an older one", []string{item("SM1", text, "outbound-api", at(-time.Minute))}, "", nil},
		{"inbound", []string{item("SM1", text, "inbound", at(time.Second))}, "", nil},
		{"a webhook's answer", []string{item("SM1", text, "outbound-reply", at(time.Second))}, "", nil},
		{"too many", strings.Split(strings.Repeat(item("SM1", "other", "outbound-api", at(time.Second))+"\n", pageSize), "\n")[:pageSize], "", message.ErrUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var query url.Values
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				query = r.URL.Query()
				fmt.Fprintf(w, `{"messages":[%s]}`, strings.Join(tt.items, ","))
			})
			m := outgoing()
			m.Text = text
			got, err := c.Find(t.Context(), m, since)
			var sids []string
			for _, r := range got {
				sids = append(sids, r.SID)
			}
			if !errors.Is(err, tt.err) || strings.Join(sids, " ") != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
			if query.Get("To") != number || query.Get("From") != "+15005550006" || query.Get("PageSize") != "1000" {
				t.Errorf("asked for %v", query)
			}
		})
	}
	t.Run("a service", func(t *testing.T) {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("From") {
				t.Errorf("asked for %s", r.URL.RawQuery)
			}
			_, _ = io.WriteString(w, `{"messages":[]}`)
		}, func(o *Options) { o.From = "MG" + account[2:] })
		if got, err := c.Find(t.Context(), outgoing(), since); len(got) > 0 || err != nil {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		o     Options
		names string
	}{
		{Options{AuthToken: "hunter2"}, "TWILIO_ACCOUNT_SID"},
		{Options{AccountSID: account}, "TWILIO_AUTH_TOKEN"},
		{Options{AccountSID: account, APIKey: "SK1"}, "TWILIO_API_SECRET"},
		{Options{AccountSID: account, AuthToken: "hunter2", BaseURL: "api.twilio.com"}, "TWILIO_API_BASE_URL"},
	} {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.names) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	}
}
