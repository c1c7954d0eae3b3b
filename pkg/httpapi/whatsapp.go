package httpapi

import (
	"net/http"
	"time"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/twiliohook"
)

// whatsApp takes an incoming message of WhatsApp and answers with the reply,
// if it is ready in time; if not, the workflow sends it.
func (a *api) whatsApp(w http.ResponseWriter, r *http.Request) {
	form, ok := a.twilioForm(w, r)
	if !ok {
		return
	}
	in, err := twiliohook.ParseInbound(message.ChannelWhatsApp, form, time.Now())
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	reply, err := a.awaitReply(r.Context(), message.ConversationInput{Message: in, StatusCallback: a.statusURL(r, in)})
	if err != nil {
		a.temporalError(w, r, err)
		return
	}
	answer := twiliohook.Nothing
	if reply.Mine && reply.Text != "" {
		if answer, err = twiliohook.Reply(reply.Text); err != nil {
			a.temporalError(w, r, err) // it asks again, and gets the reply then
			return
		}
	}
	twiliohook.Write(w, answer)
}
