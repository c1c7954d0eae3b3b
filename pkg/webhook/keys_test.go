package webhook_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/webhook"
)

const newSecret = "whsec_bmV3IHNlY3JldCBmb3IgdGhlIHJvdGF0aW9uIQ=="

func signed(t *testing.T, k webhook.Keys, at time.Time, body string) http.Header {
	t.Helper()
	h := make(http.Header)
	if err := k.Sign(h, "msg_1", at, []byte(body)); err != nil {
		t.Fatal(err)
	}
	return h
}

// While secrets are changed, sender and receiver each have old, both, or new
// ones, in any order of the steps.
func TestRotation(t *testing.T) {
	before, during, after := []string{secret}, []string{newSecret, secret}, []string{newSecret}
	for _, tt := range []struct {
		sender, receiver []string
		ok               bool
	}{
		{before, before, true}, {during, before, true}, {before, during, true}, {during, during, true},
		{after, during, true}, {during, after, true}, {after, after, true},
		{before, after, false}, {after, before, false},
	} {
		h := signed(t, keys(t, tt.sender...), time.Now(), "{}")
		id, err := keys(t, tt.receiver...).Verify(h, []byte("{}"))
		if (err == nil) != tt.ok || tt.ok && id != "msg_1" {
			t.Errorf("%d to %d secrets: %q, %v", len(tt.sender), len(tt.receiver), id, err)
		}
	}
}

// Each receiver has keys of its own, of each secret: what is meant for one is
// worth nothing at another, and none verifies with the deployment's.
func TestKeysOfReceivers(t *testing.T) {
	const url = "https://receiver.example/runcast"
	deployment := keys(t, newSecret, secret)
	of := func(url string, secrets ...string) webhook.Keys {
		t.Helper()
		k, err := keys(t, secrets...).For(url)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	here := of(url, newSecret, secret)
	h := signed(t, here, time.Now(), "{}")
	for name, tt := range map[string]struct {
		keys webhook.Keys
		ok   bool
	}{
		"its own":              {here, true},
		"of the old secret":    {of(url, secret), true},
		"with a query":         {of(url+"?run=7#top", newSecret), true},
		"with the usual port":  {of("https://Receiver.Example:443/runcast", newSecret), true},
		"what it was given":    {keys(t, here.Secrets()...), true},
		"another path":         {of(url+"/2", newSecret, secret), false},
		"another port":         {of("https://receiver.example:8443/runcast", newSecret, secret), false},
		"without TLS":          {of("http://receiver.example/runcast", newSecret, secret), false},
		"another host":         {of("https://receiver.example.org/runcast", newSecret, secret), false},
		"the deployment's own": {deployment, false},
	} {
		if _, err := tt.keys.Verify(h, []byte("{}")); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range here.Secrets() {
		if s == secret || s == newSecret || len(s) < len("whsec_")+32 {
			t.Errorf("a receiver is given %q", s)
		}
	}
	if _, err := deployment.For("ftp://receiver.example"); err == nil {
		t.Error("a URL of no receiver has keys")
	}
}

func TestVerifyRefuses(t *testing.T) {
	k := keys(t, secret)
	good := signed(t, k, time.Now(), "{}")
	with := func(name, value string) http.Header {
		h := good.Clone()
		h.Set(name, value)
		return h
	}
	for name, tt := range map[string]struct {
		h    http.Header
		body string
	}{
		"another body":        {good, "{ }"},
		"another id":          {with("webhook-id", "msg_2"), "{}"},
		"another time":        {with("webhook-timestamp", "1"), "{}"},
		"no time":             {with("webhook-timestamp", "now"), "{}"},
		"too old":             {signed(t, k, time.Now().Add(-6*time.Minute), "{}"), "{}"},
		"too new":             {signed(t, k, time.Now().Add(6*time.Minute), "{}"), "{}"},
		"no signature":        {with("webhook-signature", ""), "{}"},
		"an empty signature":  {with("webhook-signature", "v1,"), "{}"},
		"another version":     {with("webhook-signature", strings.Replace(good.Get("webhook-signature"), "v1,", "v2,", 1)), "{}"},
		"nothing of the kind": {http.Header{}, "{}"},
	} {
		if _, err := k.Verify(tt.h, []byte(tt.body)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := (webhook.Keys{}).Verify(good, []byte("{}")); err == nil {
		t.Error("without a secret everything is taken")
	}
	if (webhook.Keys{}).Sign(http.Header{}, "a", time.Now(), nil) == nil {
		t.Error("nothing can sign without a secret")
	}
}

func TestBadSecrets(t *testing.T) {
	long := base64.StdEncoding.EncodeToString(make([]byte, 65))
	for _, bad := range []string{"", "whsec_", "hunter2!", "aHVudGVyMg==", long} {
		_, err := webhook.ParseKeys(secret, bad)
		if err == nil {
			t.Errorf("%q is taken", bad)
		} else if !strings.Contains(err.Error(), "secret 2") || !strings.Contains(err.Error(), "openssl rand") || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := webhook.NewSender(webhook.Options{}); err == nil {
		t.Error("a sender can do without a secret")
	}
}
