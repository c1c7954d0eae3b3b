package settings_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/runcast/runcast/internal/settings"
)

func TestTwilio(t *testing.T) {
	for _, tt := range []struct {
		env   string
		names string // what an error has to name; "" is none
	}{
		{"", ""},
		{"TWILIO_AUTH_TOKEN=hunter2", ""}, // the API's, for its webhooks
		{"TWILIO_ACCOUNT_SID=AC1 TWILIO_AUTH_TOKEN=hunter2 TWILIO_FROM=+15005550006 TWILIO_WHATSAPP_FROM=whatsapp:+14155238886 TWILIO_API_BASE_URL=http://127.0.0.1:4013", ""},
		{"TWILIO_ACCOUNT_SID=AC1 TWILIO_API_KEY=SK1 TWILIO_API_SECRET=hunter2 TWILIO_FROM=MG1", ""},
		{"TWILIO_ACCOUNT_SID=AC1", "TWILIO_AUTH_TOKEN"},
		{"TWILIO_API_KEY=SK1 TWILIO_API_SECRET=hunter2", "TWILIO_ACCOUNT_SID"},
		{"TWILIO_ACCOUNT_SID=AC1 TWILIO_API_KEY=SK1", "TWILIO_API_SECRET"},
		{"TWILIO_FROM=Ada", "TWILIO_FROM"},
		{"TWILIO_WHATSAPP_FROM=+14155238886", "TWILIO_WHATSAPP_FROM"},
		{"TWILIO_API_BASE_URL=127.0.0.1:4013", "TWILIO_API_BASE_URL"},
	} {
		var c struct {
			Twilio settings.Twilio `embed:""`
		}
		env := settings.EnvOf(strings.Fields(tt.env))
		err := settings.Parse("x", "A program.", &c, nil, env, &bytes.Buffer{})
		if (err == nil) != (tt.names == "") || err != nil && (!strings.Contains(err.Error(), tt.names) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: got %v", tt.env, err)
		}
		if err == nil && c.Twilio.Sends() != strings.Contains(tt.env, "ACCOUNT") {
			t.Errorf("%s: sends %v", tt.env, c.Twilio.Sends())
		}
	}
}
