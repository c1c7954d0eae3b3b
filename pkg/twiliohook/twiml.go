package twiliohook

import (
	"net/http"

	"github.com/twilio/twilio-go/twiml"
)

// Nothing is the answer that makes Twilio send nothing.
const Nothing = "<Response></Response>"

// Reply returns the answer that makes Twilio send text. What XML cannot
// carry, such as a bell, becomes U+FFFD.
func Reply(text string) (string, error) {
	return twiml.Messages([]twiml.Element{twiml.MessagingMessage{Body: text}})
}

// Write answers the request with TwiML.
func Write(w http.ResponseWriter, answer string) {
	h := w.Header()
	h.Set("Content-Type", "text/xml")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(answer)) // Twilio is gone if it fails, and asks again
}
