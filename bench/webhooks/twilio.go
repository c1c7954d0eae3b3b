package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/runcast/runcast/pkg/twiliohook"
)

const (
	token     = "12345"
	publicURL = "https://hooks.example"
	route     = "/webhooks/twilio/sms"
)

func newSID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "SM" + hex.EncodeToString(b[:])
}

// newForm is what Twilio sends of a message.
func newForm() url.Values {
	sid := newSID()
	return url.Values{
		"MessageSid": {sid}, "SmsSid": {sid}, "AccountSid": {"AC0123456789abcdef0123456789abcdef"}, "From": {"+61491570156"},
		"To": {"+15005550006"}, "Body": {"log 8h on apollo yesterday"}, "NumMedia": {"0"}, "NumSegments": {"1"},
		"SmsStatus": {"received"}, "FromCountry": {"AU"}, "ToCountry": {"US"}, "ApiVersion": {"2010-04-01"},
	}
}

// hook makes a signed request and reads its answer.
func (a *api) hook(ctx context.Context, form url.Values) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL+route, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set(twiliohook.SignatureHeader, sign(form))
	res, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || string(text) != twiliohook.Nothing) {
		err = fmt.Errorf("answered %s: %s", res.Status, text)
	}
	return err
}

// sign signs as Twilio does.
func sign(form url.Values) string {
	text := publicURL + route
	for _, key := range slices.Sorted(maps.Keys(form)) {
		text += key + form.Get(key)
	}
	h := hmac.New(sha1.New, []byte(token))
	_, _ = io.WriteString(h, text) // it never fails
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}
