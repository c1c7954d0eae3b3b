package test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/twiliosend"
)

const person = "+61491570156"

func twilioClient(t *testing.T, base string, change ...func(*twiliosend.Options)) *twiliosend.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	o := twiliosend.Options{
		AccountSID: twilioAccount, AuthToken: twilioToken, From: twilioNumber, WhatsAppFrom: whatsAppNumber,
		BaseURL: base, Transport: transport,
	}
	for _, f := range change {
		f(&o)
	}
	c, err := twiliosend.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is sent arrives as it was, is found again, and every request is as
// Twilio describes it.
func TestTwilioSend(t *testing.T) {
	e := startEmulator(t, "http://127.0.0.1:1")
	client := twilioClient(t, e.proxy)
	text := "a & b = \"c\" + 100%\r\n\u202e👩‍👩‍👧‍👦 " + strings.Repeat("é", 1000)
	sms := message.Outgoing{Channel: message.ChannelSMS, To: person, Text: text, Key: "k1", StatusCallback: "http://127.0.0.1:1/webhooks/twilio/status?workflow=sms-1"}
	chat := message.Outgoing{Channel: message.ChannelWhatsApp, To: "whatsapp:" + person, Text: "hello", Key: "k2"}
	before := time.Now()
	for _, m := range []message.Outgoing{sms, chat} {
		if found, err := client.Find(t.Context(), m, before); len(found) > 0 || err != nil {
			t.Errorf("%v is there before it is sent: %v", m, err)
		}
		receipt, err := client.Send(t.Context(), m)
		if err != nil || receipt.Status != message.StatusQueued {
			t.Fatalf("%v: got %+v, %v", m, receipt, err)
		}
		got := e.messages(t, m.To.Raw())
		if len(got) != 1 || got[0].SID != receipt.SID || got[0].Body != m.Text {
			t.Errorf("%v: the emulator has %+v", m, got)
		}
		if found, err := client.Find(t.Context(), m, before); err != nil || len(found) != 1 || found[0] != receipt {
			t.Errorf("%v: found %+v, %v", m, found, err)
		}
	}
	withKey := twilioClient(t, e.proxy, func(o *twiliosend.Options) { o.AuthToken, o.APIKey, o.APISecret = "", twilioKey, twilioSecret })
	if _, err := withKey.Send(t.Context(), sms); err != nil {
		t.Errorf("with a key: %v", err)
	}
	wrong := twilioClient(t, e.proxy, func(o *twiliosend.Options) { o.AuthToken = "wrong" })
	if _, err := wrong.Send(t.Context(), sms); !errors.Is(err, message.ErrRefused) || message.CodeOf(err) != 20003 {
		t.Errorf("with a wrong token: %v", err)
	}
	sms.From = "+15005550009"
	if _, err := client.Send(t.Context(), sms); !errors.Is(err, message.ErrRefused) || message.CodeOf(err) != 21606 {
		t.Errorf("from somebody else's number: %v", err)
	}
}

// An answer that gets lost: the message was sent, the client does not know,
// and finds it.
func TestTwilioSendUnknown(t *testing.T) {
	e := startEmulator(t, "http://127.0.0.1:1")
	client := twilioClient(t, e.proxy)
	m := message.Outgoing{Channel: message.ChannelSMS, To: person, Text: "once", Key: "k1"}
	before := time.Now()
	e.setCut(true)
	if _, err := client.Send(t.Context(), m); !errors.Is(err, message.ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	e.setCut(false)
	if found, err := client.Find(t.Context(), m, before); err != nil || len(found) != 1 || found[0].SID == "" {
		t.Errorf("found %+v, %v", found, err)
	}
	if n := len(e.sends()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// The check of requests finds what is wrong.
func TestTwilioDescription(t *testing.T) {
	check := describedRequests(t)
	const path = "/2010-04-01/Accounts/" + twilioAccount + "/Messages.json"
	good := url.Values{"To": {person}, "From": {twilioNumber}, "Body": {"hi"}, "StatusCallback": {"https://a.example/x"}}
	with := func(name, value string) url.Values {
		form := url.Values{name: {value}}
		for k, v := range good {
			if k != name {
				form[k] = v
			}
		}
		return form
	}
	for _, tt := range []struct {
		name, method, path string
		form               url.Values
		ok                 bool
	}{
		{"a send", "POST", path, good, true},
		{"a list", "GET", path + "?To=%2B61491570156&From=%2B15005550006&PageSize=1000", nil, true},
		{"no To", "POST", path, url.Values{"Body": {"hi"}}, false},
		{"a misspelt field", "POST", path, with("Boddy", "hi"), false},
		{"a misspelt parameter", "GET", path + "?Too=1", nil, false},
		{"a page too large", "GET", path + "?PageSize=1001", nil, false},
		{"another account", "POST", strings.Replace(path, "AC0", "XX0", 1), good, false},
		{"a service that is none", "POST", path, with("MessagingServiceSid", "MG1"), false},
		{"another path", "POST", path + "x", good, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := tt.form.Encode()
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(body))
			r.SetBasicAuth(twilioAccount, twilioToken)
			if tt.method == "POST" {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			if err := check(r, []byte(body)); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
