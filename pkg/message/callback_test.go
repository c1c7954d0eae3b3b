package message_test

import (
	"net/url"
	"testing"

	"github.com/runcast/runcast/pkg/message"
)

func TestCallbackURL(t *testing.T) {
	const base = "https://runcast.example/webhooks/twilio/status"
	for _, tt := range []struct{ base, id, want string }{
		{base, "sms-SM1", base + "?workflow=sms-SM1"},
		{base + "?workflow=sms-SM1", "a b&c/ö", base + "?workflow=a+b%26c%2F%C3%B6"},
		{"", "sms-SM1", ""},
		{"http://a b\x00", "sms-SM1", ""},
	} {
		got := message.CallbackURL(tt.base, tt.id)
		if got != tt.want {
			t.Errorf("%q, %q: got %q", tt.base, tt.id, got)
		}
		if u, err := url.Parse(got); err != nil || got != "" && message.CallbackWorkflow(u) != tt.id {
			t.Errorf("%q does not name %q", got, tt.id)
		}
	}
}
