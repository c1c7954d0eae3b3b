package httpapi_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/httpapi"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/twiliohook"
)

const (
	authToken = "12345"
	publicURL = "https://hooks.example/base"
)

// withTwilio lets the webhooks check signatures.
func withTwilio(t *testing.T) func(*httpapi.Options) {
	t.Helper()
	v, err := twiliohook.NewVerifier(twiliohook.Options{AuthToken: authToken, PublicURL: publicURL})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *httpapi.Options) { o.Twilio, o.MaxBody = v, 0 }
}

// sign signs as Twilio does.
func sign(token, path string, form url.Values) string {
	text := publicURL + path
	for _, key := range slices.Sorted(maps.Keys(form)) {
		for _, value := range slices.Compact(slices.Sorted(slices.Values(form[key]))) {
			text += key + value
		}
	}
	h := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(h, text)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

const formType = "application/x-www-form-urlencoded"

// hook makes a signed request.
func hook(t *testing.T, s *httptest.Server, path string, form url.Values) answer {
	t.Helper()
	return call(t, s, "POST", path, form.Encode(), "Content-Type", formType, twiliohook.SignatureHeader, sign(authToken, path, form))
}

func newSID(t *testing.T) string {
	t.Helper()
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return "SM" + hex.EncodeToString(b[:])
}

func smsForm(sid, text string) url.Values {
	return url.Values{"MessageSid": {sid}, "From": {"+61491570156"}, "To": {"+15005550006"}, "Body": {text}, "AccountSid": {"AC1"}}
}

// inputOf returns what a conversation was started with.
func inputOf(t *testing.T, temporal client.Client, id string) message.ConversationInput {
	t.Helper()
	event, err := temporal.GetWorkflowHistory(t.Context(), id, "", false, 0).Next()
	if err != nil {
		t.Fatal(err)
	}
	var in message.ConversationInput
	payloads := event.GetWorkflowExecutionStartedEventAttributes().GetInput()
	if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &in); err != nil {
		t.Fatal(err)
	}
	return in
}

// Once, twice at once, again later, and again after the run has closed: one
// run, and the same answer.
func TestSMSStartsOnce(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal, withTwilio(t))
	sid := newSID(t)
	id := message.ConversationID(message.ChannelSMS, sid)
	const text = "a\x00\x07\r\n\u202e👩‍👩‍👧‍👦 & <b>"
	check := func(a answer) {
		t.Helper()
		if a.StatusCode != 200 || a.text != "<Response></Response>" || a.Header.Get("Content-Type") != "text/xml" {
			t.Errorf("got %d %q %s", a.StatusCode, a.Header.Get("Content-Type"), a.text)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { check(hook(t, s, "/webhooks/twilio/sms", smsForm(sid, text))) })
	}
	all.Wait()
	first, err := temporal.DescribeWorkflowExecution(t.Context(), id, "")
	if err != nil {
		t.Fatal(err)
	}
	run := first.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	if got := first.GetWorkflowExecutionInfo().GetType().GetName(); got != message.ConversationWorkflow {
		t.Errorf("type %q", got)
	}
	in := inputOf(t, temporal, id)
	if in.Message.Text != text || in.Message.From != "+61491570156" || in.Message.SID != sid || in.Wait != 0 || time.Since(in.Message.ReceivedAt).Abs() > time.Minute {
		t.Errorf("started with %+v, %q", in, in.Message.Text)
	}
	if want := publicURL + "/webhooks/twilio/status?workflow=" + id; in.StatusCallback != want {
		t.Errorf("status callback %q, want %q", in.StatusCallback, want)
	}
	if err := temporal.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
		t.Fatal(err)
	}
	check(hook(t, s, "/webhooks/twilio/sms", smsForm(sid, text)))
	last, err := temporal.DescribeWorkflowExecution(t.Context(), id, "")
	if err != nil || last.GetWorkflowExecutionInfo().GetExecution().GetRunId() != run {
		t.Errorf("another run was started: %v, %v", last, err)
	}
}

// A picture has no text; a 1,600-character text is not too long.
func TestSMSTexts(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal, withTwilio(t))
	for _, text := range []string{"", strings.Repeat("👩‍🚒", 400), strings.Repeat("ü", 1600)} {
		sid := newSID(t)
		if a := hook(t, s, "/webhooks/twilio/sms", smsForm(sid, text)); a.StatusCode != 200 {
			t.Fatalf("got %d %s", a.StatusCode, a.text)
		}
		id := message.ConversationID(message.ChannelSMS, sid)
		if got := inputOf(t, temporal, id).Message.Text; got != text {
			t.Errorf("got %q", got)
		}
		if err := temporal.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
			t.Error(err)
		}
	}
}

func TestBadWebhooks(t *testing.T) {
	s := newAPI(t, fakeTemporal{t: t}, withTwilio(t))
	const sms, status, chat = "/webhooks/twilio/sms", "/webhooks/twilio/status", "/webhooks/twilio/whatsapp"
	sid := newSID(t)
	good := smsForm(sid, "hi")
	with := func(name string, values ...string) url.Values {
		form := maps.Clone(good)
		form[name] = values
		return form
	}
	for _, tt := range []struct {
		name, method, path, contentType string
		form                            url.Values
		signature                       string // "" signs as Twilio does
		status                          int
		says                            string
	}{
		{"no signature", "POST", sms, formType, good, "-", 403, "signature"},
		{"wrong signature", "POST", sms, formType, good, "vOEb5UThFn24KEfnOFLQY2AE5FY=", 403, publicURL + sms},
		{"another account's", "POST", sms, formType, good, sign("54321", sms, good), 403, "TWILIO_AUTH_TOKEN"},
		{"of another text", "POST", sms, formType, good, sign(authToken, sms, with("Body", "ho")), 403, "signature"},
		{"of another route", "POST", sms, formType, good, sign(authToken, status, good), 403, "signature"},
		{"of another run", "POST", status + "?workflow=b", formType, good, sign(authToken, status+"?workflow=a", good), 403, "signature"},
		{"GET", "GET", sms, "", nil, "", 405, "POST"},
		{"PUT", "PUT", sms, formType, good, "", 405, "POST"},
		{"too large", "POST", sms, formType, with("Body", strings.Repeat("x", 64<<10)), "", 413, "65536"},
		{"JSON", "POST", sms, "application/json", good, "", 415, formType},
		{"no type", "POST", sms, "", good, "", 415, formType},
		{"no SID", "POST", sms, formType, with("MessageSid"), "", 400, "MessageSid"},
		{"bad SID", "POST", sms, formType, with("MessageSid", "SM/../x"), "", 400, "MessageSid"},
		{"two SIDs", "POST", sms, formType, with("MessageSid", sid, newSID(t)), "", 400, "MessageSid"},
		{"no From", "POST", sms, formType, with("From"), "", 400, "From"},
		{"bad From", "POST", sms, formType, with("From", "Ada <x>"), "", 400, "From"},
		{"unsigned WhatsApp", "POST", chat, formType, whatsAppForm(sid, "hi"), "-", 403, "signature"},
		{"WhatsApp, of another route", "POST", chat, formType, whatsAppForm(sid, "hi"), sign(authToken, sms, whatsAppForm(sid, "hi")), 403, publicURL + chat},
		{"WhatsApp by GET", "GET", chat, "", nil, "", 405, "POST"},
		{"WhatsApp too large", "POST", chat, formType, whatsAppForm(sid, strings.Repeat("x", 64<<10)), "", 413, "65536"},
		{"WhatsApp as JSON", "POST", chat, "application/json", whatsAppForm(sid, "hi"), "", 415, formType},
		{"WhatsApp without a SID", "POST", chat, formType, whatsAppForm("", "hi"), "", 400, "MessageSid"},
		{"SMS to WhatsApp's route", "POST", chat, formType, good, "", 400, "From"},
		{"status by GET", "GET", status, "", nil, "", 405, "POST"},
		{"status too large", "POST", status, formType, with("Body", strings.Repeat("x", 64<<10)), "", 413, "65536"},
		{"status as JSON", "POST", status, "application/json", good, "", 415, formType},
		{"status without one", "POST", status, formType, good, "", 400, "MessageStatus"},
		{"unsigned status", "POST", status, formType, with("MessageStatus", "sent"), "-", 403, "signature"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := []string{"Content-Type", tt.contentType}
			switch tt.signature {
			case "":
				header = append(header, twiliohook.SignatureHeader, sign(authToken, tt.path, tt.form))
			case "-":
			default:
				header = append(header, twiliohook.SignatureHeader, tt.signature)
			}
			a := call(t, s, tt.method, tt.path, tt.form.Encode(), header...)
			if a.StatusCode != tt.status || !strings.Contains(a.text, tt.says) || a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %d %s %s", a.StatusCode, a.Header.Get("Content-Type"), a.text)
			}
			if strings.Contains(a.text, "491570156") && !strings.Contains(tt.says, "From") {
				t.Errorf("the number is repeated: %s", a.text)
			}
		})
	}
}

// Without a token nobody can be told from Twilio: nothing is taken.
func TestWebhooksWithoutToken(t *testing.T) {
	s := newAPI(t, fakeTemporal{t: t})
	for _, path := range []string{"/webhooks/twilio/sms", "/webhooks/twilio/whatsapp", "/webhooks/twilio/status"} {
		a := hook(t, s, path, smsForm(newSID(t), "hi"))
		if a.StatusCode != 503 || !strings.Contains(a.text, "TWILIO_AUTH_TOKEN") {
			t.Errorf("%s: got %d %s", path, a.StatusCode, a.text)
		}
	}
}

// receipts remembers what it is given.
type receipts struct {
	mu  sync.Mutex
	got []message.Receipt
	err error
}

func (r *receipts) UpdateStatus(_ context.Context, receipt message.Receipt) (message.Receipt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, receipt)
	return receipt, r.err
}

// A status is kept with its message and told to the run that sent it; a run
// that is over, or was never there, is no reason to lose it.
func TestDeliveryStatus(t *testing.T) {
	temporal := testenv.Temporal(t)
	kept := &receipts{}
	s := newAPI(t, temporal, withTwilio(t), func(o *httpapi.Options) { o.Receipts = kept })
	in, out := newSID(t), newSID(t)
	if a := hook(t, s, "/webhooks/twilio/sms", smsForm(in, "hi")); a.StatusCode != 200 {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	id := message.ConversationID(message.ChannelSMS, in)
	callback := strings.TrimPrefix(inputOf(t, temporal, id).StatusCallback, publicURL)
	form := url.Values{"MessageSid": {out}, "MessageStatus": {"undelivered"}, "ErrorCode": {"30003"}, "To": {"+61491570156"}}
	if a := hook(t, s, callback, form); a.StatusCode != 204 {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	want := message.Receipt{SID: out, Status: message.StatusUndelivered, ErrorCode: 30003}
	var signals int
	for history := temporal.GetWorkflowHistory(t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); history.HasNext(); {
		event, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		if signal := event.GetWorkflowExecutionSignaledEventAttributes(); signal != nil {
			signals++
			var got message.Receipt
			if err := converter.GetDefaultDataConverter().FromPayloads(signal.GetInput(), &got); err != nil || got != want || signal.GetSignalName() != message.StatusSignal {
				t.Errorf("signal %q with %+v, %v", signal.GetSignalName(), got, err)
			}
		}
	}
	if signals != 1 {
		t.Errorf("%d signals", signals)
	}
	if err := temporal.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{callback, "/webhooks/twilio/status?workflow=none", "/webhooks/twilio/status"} {
		if a := hook(t, s, path, form); a.StatusCode != 204 {
			t.Errorf("%s: got %d %s", path, a.StatusCode, a.text)
		}
	}
	if len(kept.got) != 4 || kept.got[3] != want {
		t.Errorf("kept %+v", kept.got)
	}
	kept.err = context.DeadlineExceeded
	if a := hook(t, s, callback, form); a.StatusCode != 503 {
		t.Errorf("nothing kept it: got %d %s", a.StatusCode, a.text)
	}
	metrics := call(t, s, "GET", "/metrics", "").text
	if !strings.Contains(metrics, `runcast_api_delivery_statuses_total{status="undelivered"} 5`) {
		t.Error("the statuses are not counted")
	}
}

// Neither number nor text may get into logs or metrics, whatever happens.
func TestNothingPrivateIsLogged(t *testing.T) {
	var log strings.Builder
	var mu sync.Mutex
	logger := slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	kept := &receipts{err: context.DeadlineExceeded}
	temporal, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(temporal.Close)
	s := newAPI(t, temporal, withTwilio(t), func(o *httpapi.Options) {
		o.Logger, o.Receipts, o.Timeout = logger, kept, 200*time.Millisecond
	})
	begin := time.Now()
	if a := hook(t, s, "/webhooks/twilio/sms", smsForm(newSID(t), "the secret text")); a.StatusCode != 503 || time.Since(begin) > 5*time.Second {
		t.Errorf("Temporal away: got %d %s after %v", a.StatusCode, a.text, time.Since(begin))
	}
	call(t, s, "POST", "/v1/messages", `{"from":"+61491570156","text":"the secret text"}`)
	call(t, s, "POST", "/webhooks/twilio/sms", smsForm(newSID(t), "the secret text").Encode(), "Content-Type", formType)
	hook(t, s, "/webhooks/twilio/status?workflow=x", url.Values{"MessageSid": {newSID(t)}, "MessageStatus": {"sent"}, "To": {"+61491570156"}, "Body": {"the secret text"}})
	all := call(t, s, "GET", "/metrics", "").text
	mu.Lock()
	defer mu.Unlock()
	all += log.String()
	if !strings.Contains(all, "Temporal call failed") || !strings.Contains(all, "delivery status") {
		t.Errorf("the failures are not in %s", all)
	}
	for _, private := range []string{"491570156", "secret text"} {
		if strings.Contains(all, private) {
			t.Errorf("%q is in %s", private, all)
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func TestTypedMessage(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal)
	a := call(t, s, "POST", "/v1/messages", `{"from":"+61491570156","text":"log 8h on apollo"}`)
	id, _ := a.body["workflow_id"].(string)
	run, _ := a.body["run_id"].(string)
	if a.StatusCode != 202 || !strings.HasPrefix(id, "page-") || run == "" || a.Header.Get("Location") != "/v1/workflows/"+id {
		t.Fatalf("got %d %s", a.StatusCode, a.text)
	}
	if want := "https://stream.example/v1/workflows/" + id + "/stream?run=" + run; a.body["stream"] != want {
		t.Errorf("stream %q, want %q", a.body["stream"], want)
	}
	in := inputOf(t, temporal, id)
	if in.Message.Channel != message.ChannelPage || in.Message.From != "+61491570156" || in.Message.Text != "log 8h on apollo" || in.StatusCallback != "" {
		t.Errorf("started with %+v", in)
	}
	again := `{"text":"hi","id":"` + newSID(t) + `"}`
	one, two := call(t, s, "POST", "/v1/messages", again), call(t, s, "POST", "/v1/messages", again)
	if one.StatusCode != 202 || two.StatusCode != 202 || one.text != two.text {
		t.Errorf("the same message twice: %d %s and %d %s", one.StatusCode, one.text, two.StatusCode, two.text)
	}
	for _, id := range []string{id, one.body["workflow_id"].(string)} {
		if err := temporal.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
			t.Error(err)
		}
	}
	bad := newAPI(t, fakeTemporal{t: t}, func(o *httpapi.Options) { o.MaxBody = 0 })
	for _, tt := range []struct {
		body   string
		status int
		says   string
	}{
		{`{"text":" "}`, 400, "text"},
		{`{"from":"Ada","text":"hi"}`, 400, "from"},
		{`{"text":"` + strings.Repeat("x", 1601) + `"}`, 400, "1601"},
		{`{"text":"hi","id":"a b"}`, 400, "id"},
		{`{"text":"hi","to":"+1"}`, 400, "to"},
		{`{"text":"` + strings.Repeat("x", 64<<10) + `"}`, http.StatusRequestEntityTooLarge, "65536"},
	} {
		if a := call(t, bad, "POST", "/v1/messages", tt.body); a.StatusCode != tt.status || !strings.Contains(a.text, tt.says) {
			t.Errorf("%.60s: got %d %s", tt.body, a.StatusCode, a.text)
		}
	}
}
