package settings

import (
	"errors"
	"strings"
)

// Twilio says how messages are sent.
type Twilio struct {
	AccountSID   string `name:"twilio-account-sid" from:"TWILIO_ACCOUNT_SID" placeholder:"AC…" help:"Twilio account that sends. Empty: messages stay in the outbox."`
	AuthToken    string `name:"twilio-auth-token" from:"TWILIO_AUTH_TOKEN" placeholder:"TOKEN" help:"Its auth token."`
	APIKey       string `name:"twilio-api-key" from:"TWILIO_API_KEY" placeholder:"SK…" help:"API key to send with in place of the auth token."`
	APISecret    string `name:"twilio-api-secret" from:"TWILIO_API_SECRET" placeholder:"SECRET" help:"The API key's secret."`
	From         string `name:"twilio-from" from:"TWILIO_FROM" placeholder:"+…" help:"Number, or messaging service (MG…), that sends what nobody asked for, such as reminders."`
	WhatsAppFrom string `name:"twilio-whatsapp-from" from:"TWILIO_WHATSAPP_FROM" placeholder:"whatsapp:+…" help:"The same for WhatsApp."`
	APIBaseURL   string `name:"twilio-api-base-url" from:"TWILIO_API_BASE_URL" placeholder:"URL" help:"Another server in the place of https://api.twilio.com, such as an emulator."`
}

// Sends reports whether messages go to Twilio.
func (t Twilio) Sends() bool { return t.AccountSID != "" }

// Validate reports settings that do not go together.
func (t Twilio) Validate() error {
	if t.AccountSID != "" && t.AuthToken == "" && t.APIKey == "" {
		return errors.New("TWILIO_ACCOUNT_SID is set, but nothing to send with: set TWILIO_AUTH_TOKEN, or TWILIO_API_KEY and TWILIO_API_SECRET")
	}
	if t.AccountSID == "" && t.APIKey != "" {
		return errors.New("TWILIO_API_KEY is set, but not whose it is: set TWILIO_ACCOUNT_SID")
	}
	if (t.APIKey == "") != (t.APISecret == "") {
		return errors.New("TWILIO_API_KEY and TWILIO_API_SECRET go together: set both or none")
	}
	if t.WhatsAppFrom != "" && !strings.HasPrefix(t.WhatsAppFrom, "whatsapp:+") && !strings.HasPrefix(t.WhatsAppFrom, "MG") {
		return errors.New("--twilio-whatsapp-from (TWILIO_WHATSAPP_FROM) does not look like whatsapp:+14155238886")
	}
	if t.From != "" && !strings.HasPrefix(t.From, "+") && !strings.HasPrefix(t.From, "MG") {
		return errors.New("--twilio-from (TWILIO_FROM) is neither a number such as +15005550006 nor a messaging service (MG…)")
	}
	return BaseURL("--twilio-api-base-url (TWILIO_API_BASE_URL)", t.APIBaseURL)
}
