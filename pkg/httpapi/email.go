package httpapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/problem"
)

// mail is the body of POST /webhooks/email.
type mail struct {
	// MessageID makes a mail that is delivered twice one; "" makes one up.
	MessageID string `json:"message_id"`
	From      string `json:"from"`
	// To is the mailbox of ours; "" is not told.
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// mailReply is the answer: the reply, or where it will be seen.
type mailReply struct {
	started
	Reply string `json:"reply"`
}

// maxMailText is the most characters of a mail that are read: what agents
// make something of, far below the bound of a body.
const maxMailText = 16_000

// email takes a mail as JSON and answers with the reply, if it is ready in
// time; if not, with 202 and the links by which it can be followed.
func (a *api) email(w http.ResponseWriter, r *http.Request) {
	if !a.mayMail(r) {
		a.metrics.refused.WithLabelValues("email_token").Inc()
		w.Header().Set("WWW-Authenticate", `Basic realm="runcast"`)
		problem.Write(w, problem.Problem{
			Status: http.StatusUnauthorized,
			Detail: "Send the token, which RUNCAST_EMAIL_TOKEN holds, as a bearer token, or as the password of basic authentication.",
		})
		return
	}
	var m mail
	if !a.readJSON(w, r, &m, `{"message_id":"…","from":"ada@example.com","to":"…","subject":"…","text":"log 8h on apollo"}`) {
		return
	}
	in, err := m.inbound(time.Now())
	if err != nil {
		problem.Write(w, problem.Problem{Status: http.StatusBadRequest, Detail: err.Error() + "."})
		return
	}
	reply, err := a.awaitReply(r.Context(), message.ConversationInput{Message: in})
	if err != nil {
		a.temporalError(w, r, err)
		return
	}
	id := message.ConversationID(in.Channel, in.SID)
	if !reply.Mine {
		a.accept(w, id, reply.RunID)
		return
	}
	writeJSON(w, http.StatusOK, mailReply{
		started: started{WorkflowID: id, RunID: reply.RunID, Stream: a.streamURL(id, reply.RunID)},
		Reply:   reply.Text,
	})
}

// mayMail reports whether the request carries the token.
func (a *api) mayMail(r *http.Request) bool {
	if a.EmailToken == "" {
		return true
	}
	_, given, ok := r.BasicAuth()
	if !ok {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		given, ok = token, strings.EqualFold(scheme, "Bearer")
	}
	// Of hashes, since the time of a comparison tells the length.
	want, got := sha256.Sum256([]byte(a.EmailToken)), sha256.Sum256([]byte(given))
	return ok && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// inbound checks the mail. Its error names the member at fault.
func (m mail) inbound(now time.Time) (message.Inbound, error) {
	if m.MessageID == "" {
		m.MessageID = strings.ToLower(rand.Text())
	}
	if err := checkSID(m.MessageID); err != nil {
		return message.Inbound{}, fmt.Errorf(`"message_id": %w`, err)
	}
	from, err := message.ParseAddress(message.ChannelEmail, m.From)
	if err != nil {
		return message.Inbound{}, fmt.Errorf(`"from": %w`, err)
	}
	var to message.Address
	if m.To != "" {
		if to, err = message.ParseAddress(message.ChannelEmail, m.To); err != nil {
			return message.Inbound{}, fmt.Errorf(`"to": %w`, err)
		}
	}
	text := strings.TrimSpace(m.Subject + "\n" + m.Text)
	if text == "" {
		return message.Inbound{}, errors.New(`"text" is missing: what the mail says`)
	}
	if n := utf8.RuneCountInString(text); n > maxMailText {
		return message.Inbound{}, fmt.Errorf(`"subject" and "text" have %d characters; %d are allowed`, n, maxMailText)
	}
	return message.Inbound{
		Channel: message.ChannelEmail, SID: m.MessageID, From: from, To: to, Text: text,
		ReceivedAt: now.UTC().Truncate(time.Microsecond),
	}, nil
}
