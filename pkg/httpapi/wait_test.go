package httpapi_test

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/httpapi"
	"github.com/runcast/runcast/pkg/message"
)

// conversation is what the API needs of a conversation: a reply that is ready
// after the time that the message says, and that is claimed once, or sent.
func conversation(ctx workflow.Context, in message.ConversationInput) (message.ConversationResult, error) {
	if in.Message.Text == "fail" {
		return message.ConversationResult{}, errors.New("failed")
	}
	deadline := workflow.GetInfo(ctx).WorkflowStartTime.Add(in.Wait)
	ready, claimed := false, false
	text := "reply to " + in.Message.Text
	err := workflow.SetUpdateHandlerWithOptions(ctx, message.ClaimUpdate, func(workflow.Context) (message.Claim, error) {
		first := !claimed
		claimed = true
		return message.Claim{Reply: text, Claimed: first}, nil
	}, workflow.UpdateHandlerOptions{Validator: func(ctx workflow.Context) error {
		if !ready || workflow.Now(ctx).After(deadline) {
			return errors.New("not ready, or too late")
		}
		return nil
	}})
	if err != nil {
		return message.ConversationResult{}, err
	}
	thinking, err := time.ParseDuration(in.Message.Text)
	if err != nil {
		return message.ConversationResult{}, err
	}
	if err := workflow.Sleep(ctx, thinking); err != nil {
		return message.ConversationResult{}, err
	}
	ready = true
	if left := deadline.Sub(workflow.Now(ctx)); left > 0 {
		if _, err := workflow.AwaitWithTimeout(ctx, left, func() bool { return claimed }); err != nil {
			return message.ConversationResult{}, err
		}
	}
	return message.ConversationResult{Reply: text, Sent: !claimed}, nil
}

// converses serves the API with a worker for its conversations.
func converses(t *testing.T, change ...func(*httpapi.Options)) (*httptest.Server, client.Client) {
	t.Helper()
	temporal := testenv.Temporal(t)
	w := worker.New(temporal, "httpapi-"+t.Name(), worker.Options{})
	w.RegisterWorkflowWithOptions(conversation, workflow.RegisterOptions{Name: message.ConversationWorkflow})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	change = append([]func(*httpapi.Options){withTwilio(t), func(o *httpapi.Options) { o.Wait = 3 * time.Second }}, change...)
	return newAPI(t, temporal, change...), temporal
}

func whatsAppForm(sid, text string) url.Values {
	return url.Values{"MessageSid": {sid}, "From": {"whatsapp:+61491570156"}, "To": {"whatsapp:+14155238886"}, "Body": {text}}
}

// said returns the messages of a TwiML answer.
func said(t *testing.T, a answer) []string {
	t.Helper()
	var doc struct {
		XMLName xml.Name `xml:"Response"`
		Message []string
	}
	if err := xml.Unmarshal([]byte(a.text), &doc); err != nil || a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/xml" {
		t.Fatalf("got %d %s, %v", a.StatusCode, a.text, err)
	}
	return doc.Message
}

func resultOf(t *testing.T, temporal client.Client, id string) message.ConversationResult {
	t.Helper()
	var r message.ConversationResult
	if err := temporal.GetWorkflow(t.Context(), id, "").Get(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// The reply is in the answer, or sent by the workflow: never both, never none.
func TestWhatsApp(t *testing.T) {
	s, temporal := converses(t)
	for _, tt := range []struct {
		name, thinks string
		answered     bool
	}{
		{"soon", "0s", true},
		{"in time", "500ms", true},
		{"late", "4s", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sid := newSID(t)
			begin := time.Now()
			got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(sid, tt.thinks)))
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("it took %v", took)
			}
			want := ""
			if tt.answered {
				want = "reply to " + tt.thinks
			}
			if strings.Join(got, "|") != want {
				t.Errorf("answered %q, want %q", got, want)
			}
			if r := resultOf(t, temporal, "whatsapp-"+sid); r.Sent == tt.answered {
				t.Errorf("the workflow ended with %+v", r)
			}
			again := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(sid, tt.thinks)))
			if strings.Join(again, "|") != want {
				t.Errorf("asked again: %q, want %q", again, want)
			}
		})
	}
}

// Whenever the reply gets ready, also just when the wait ends: one gives it.
func TestNeverBoth(t *testing.T) {
	s, temporal := converses(t)
	var all sync.WaitGroup
	var answered, sent atomic.Int32
	for d := 1500 * time.Millisecond; d <= 2500*time.Millisecond; d += 50 * time.Millisecond {
		all.Go(func() {
			sid := newSID(t)
			got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(sid, d.String())))
			r := resultOf(t, temporal, "whatsapp-"+sid)
			if len(got) == 1 {
				answered.Add(1)
			} else {
				sent.Add(1)
			}
			if r.Sent == (len(got) == 1) {
				t.Errorf("after %v: answered %q, and the workflow ended with %+v", d, got, r)
			}
		})
	}
	all.Wait()
	t.Logf("%d answered, %d sent", answered.Load(), sent.Load())
}

// Whoever waits is killed: the workflow sends.
func TestKilledWhileWaiting(t *testing.T) {
	s, temporal := converses(t)
	sid := newSID(t)
	form := whatsAppForm(sid, "1s")
	ctx, kill := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer kill()
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/webhooks/twilio/whatsapp", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", formType)
	req.Header.Set("X-Twilio-Signature", sign(authToken, "/webhooks/twilio/whatsapp", form))
	if res, err := s.Client().Do(req); err == nil {
		res.Body.Close()
		t.Fatalf("it answered %d", res.StatusCode)
	}
	if r := resultOf(t, temporal, "whatsapp-"+sid); !r.Sent {
		t.Errorf("the workflow ended with %+v", r)
	}
	if got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", form)); len(got) != 0 {
		t.Errorf("it was sent, and answered with %q when asked again", got)
	}
}

// Whoever has claimed the reply dies with it: Twilio asks again, and gets it,
// and that is counted.
func TestKilledAfterClaiming(t *testing.T) {
	s, temporal := converses(t)
	sid := newSID(t)
	id := "whatsapp-" + sid
	in := message.ConversationInput{Message: message.Inbound{Channel: message.ChannelWhatsApp, SID: sid, Text: "0s"}, Wait: 5 * time.Second}
	_, err := temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: "httpapi-" + t.Name()}, message.ConversationWorkflow, in)
	if err != nil {
		t.Fatal(err)
	}
	for claimed := false; !claimed; {
		update, err := temporal.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: message.ClaimUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err != nil {
			t.Fatal(err)
		}
		claimed = update.Get(t.Context(), nil) == nil // it is refused until the reply is ready
	}
	if got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(sid, "0s"))); len(got) != 1 || got[0] != "reply to 0s" {
		t.Errorf("asked again: %q", got)
	}
	if metrics := call(t, s, "GET", "/metrics", "").text; !strings.Contains(metrics, `runcast_api_replies_total{channel="whatsapp",result="again"} 1`) {
		t.Error("it is not counted")
	}
}

// No worker takes it: the wait ends in time, and a worker that comes later
// takes no claim of it.
func TestNoWorker(t *testing.T) {
	temporal := testenv.Temporal(t)
	s := newAPI(t, temporal, withTwilio(t), func(o *httpapi.Options) { o.Wait = 2 * time.Second })
	sid := newSID(t)
	begin := time.Now()
	if got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(sid, "0s"))); len(got) != 0 || time.Since(begin) > 3*time.Second {
		t.Errorf("answered %q after %v", got, time.Since(begin))
	}
	w := worker.New(temporal, "httpapi-"+t.Name(), worker.Options{})
	w.RegisterWorkflowWithOptions(conversation, workflow.RegisterOptions{Name: message.ConversationWorkflow})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if r := resultOf(t, temporal, "whatsapp-"+sid); !r.Sent {
		t.Errorf("the workflow ended with %+v", r)
	}
}

// Only so many wait at once: whoever comes then is answered at once, and the
// workflow sends.
func TestWaitingIsBounded(t *testing.T) {
	s, temporal := converses(t, func(o *httpapi.Options) { o.MaxWaiting, o.Wait = 1, 14*time.Second })
	waits, crowded := newSID(t), newSID(t)
	var first sync.WaitGroup
	first.Go(func() {
		if got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(waits, "4s"))); len(got) != 1 {
			t.Errorf("the first was answered %q", got)
		}
	})
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := temporal.DescribeWorkflowExecution(t.Context(), "whatsapp-"+waits, ""); err == nil {
			break
		} else if time.Since(begin) > time.Minute {
			t.Fatal(err)
		}
	}
	if got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(crowded, "0s"))); len(got) != 0 {
		t.Errorf("the second was answered %q", got)
	}
	if r := resultOf(t, temporal, "whatsapp-"+crowded); !r.Sent {
		t.Errorf("the workflow ended with %+v", r)
	}
	first.Wait()
	if got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(newSID(t), "0s"))); len(got) != 1 {
		t.Errorf("with nobody waiting it was answered %q", got)
	}
	if metrics := call(t, s, "GET", "/metrics", "").text; !strings.Contains(metrics, `runcast_api_replies_total{channel="whatsapp",result="crowded"} 1`) {
		t.Error("it is not counted")
	}
}

// With a token, mails are taken from who has it, in either of the ways in
// which gateways can be told it, and from nobody else.
func TestEmailToken(t *testing.T) {
	const token, mail = "open sesame", `{"from":"ada@example.com","text":"hi"}`
	s := newAPI(t, fakeTemporal{t: t}, func(o *httpapi.Options) { o.EmailToken = token })
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("gateway:"+password))
	}
	for _, tt := range []struct {
		name, authorization string
		status              int
	}{
		{"none", "", 401},
		{"another", "Bearer open", 401},
		{"empty", "Bearer ", 401},
		{"no scheme", token, 401},
		{"another password", basic("x"), 401},
		{"the token as user", "Basic " + base64.StdEncoding.EncodeToString([]byte(token+":")), 401},
		{"bearer", "Bearer " + token, 400}, // the mail is broken
		{"bearer in small letters", "bearer " + token, 400},
		{"password", basic(token), 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := []string{"Authorization", tt.authorization}
			body := mail
			if tt.status == 400 {
				body = `{}`
			}
			a := call(t, s, "POST", "/webhooks/email", body, header...)
			if a.StatusCode != tt.status || a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("got %d %s", a.StatusCode, a.text)
			}
			if tt.status == 401 && (!strings.Contains(a.text, "RUNCAST_EMAIL_TOKEN") || a.Header.Get("WWW-Authenticate") == "") || strings.Contains(a.text, token) {
				t.Errorf("got %v %s", a.Header, a.text)
			}
		})
	}
}

// A conversation that fails has no reply, and says so to nobody but the log.
func TestConversationFails(t *testing.T) {
	s, _ := converses(t)
	if got := said(t, hook(t, s, "/webhooks/twilio/whatsapp", whatsAppForm(newSID(t), "fail"))); len(got) != 0 {
		t.Errorf("answered %q", got)
	}
	if metrics := call(t, s, "GET", "/metrics", "").text; !strings.Contains(metrics, `runcast_api_replies_total{channel="whatsapp",result="failed"} 1`) {
		t.Error("it is not counted")
	}
}

func TestEmail(t *testing.T) {
	s, temporal := converses(t)
	mail := func(text string) answer {
		return call(t, s, "POST", "/webhooks/email", `{"message_id":"<`+newSID(t)+`@mail.example>","from":"ada@example.com","subject":"`+text+`"}`)
	}
	a := mail("0s")
	id, _ := a.body["workflow_id"].(string)
	if a.StatusCode != 200 || a.body["reply"] != "reply to 0s" || !strings.HasPrefix(id, "email-<") || !strings.Contains(a.text, "/stream?run=") {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	if r := resultOf(t, temporal, id); r.Sent {
		t.Errorf("it was sent, too: %+v", r)
	}
	a = mail("4s")
	id, _ = a.body["workflow_id"].(string)
	if a.StatusCode != 202 || a.body["reply"] != nil || a.body["stream"] == nil || a.Header.Get("Location") == "" {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	if r := resultOf(t, temporal, id); !r.Sent {
		t.Errorf("nobody sent it: %+v", r)
	}
	bad := newAPI(t, fakeTemporal{t: t}, func(o *httpapi.Options) { o.MaxBody = 0 })
	for _, tt := range []struct{ body, says string }{
		{`{"from":"ada@example.com"}`, "text"},
		{`{"text":"hi"}`, "from"},
		{`{"from":"ada@example.com\r\nBcc: b@example.com","text":"hi"}`, "from"},
		{`{"from":"ada@example.com","to":"x","text":"hi"}`, `\"to\"`},
		{`{"from":"ada@example.com","text":"hi","message_id":"a b"}`, "message_id"},
		{`{"from":"ada@example.com","text":"` + strings.Repeat("x", 16_001) + `"}`, "16000"},
		{`{"from":"ada@example.com","html":"hi"}`, "html"},
	} {
		if a := call(t, bad, "POST", "/webhooks/email", tt.body); a.StatusCode != 400 || !strings.Contains(a.text, tt.says) {
			t.Errorf("%.60s: got %d %s", tt.body, a.StatusCode, a.text)
		}
	}
}
