package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/problem"
	"github.com/runcast/runcast/pkg/twiliohook"
)

// Receipts keeps what becomes of messages that were sent.
type Receipts interface {
	// UpdateStatus keeps the receipt with its message, in whatever order
	// receipts come, and returns what holds.
	UpdateStatus(ctx context.Context, r message.Receipt) (message.Receipt, error)
}

// statusPath is where Twilio reports what becomes of a message.
const statusPath = "/webhooks/twilio/status"

// twilioForm reads a request that Twilio has signed, or answers what is wrong
// with it. Nothing has been started by then.
func (a *api) twilioForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	if a.Twilio == nil {
		a.metrics.refused.WithLabelValues("no_token").Inc()
		problem.Write(w, problem.Problem{
			Status: http.StatusServiceUnavailable,
			Detail: "Twilio's requests cannot be checked, so none is taken: set TWILIO_AUTH_TOKEN, and RUNCAST_PUBLIC_URL to the base of the URLs that Twilio was given.",
		})
		return nil, false
	}
	form, err := twiliohook.ReadForm(w, r, a.MaxBody)
	if err == nil {
		err = a.Twilio.Signed(r, form)
	}
	if err != nil {
		a.refuse(w, r, err)
		return nil, false
	}
	return form, true
}

// refuse answers a webhook that is not taken.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, reason := http.StatusBadRequest, "form"
	switch {
	case errors.Is(err, twiliohook.ErrSignature), errors.Is(err, twiliohook.ErrNoURL):
		status, reason = http.StatusForbidden, "signature"
	case errors.Is(err, twiliohook.ErrTooLarge):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, twiliohook.ErrNotForm):
		status = http.StatusUnsupportedMediaType
		w.Header().Set("Accept-Post", "application/x-www-form-urlencoded")
	}
	a.metrics.refused.WithLabelValues(reason).Inc()
	detail := strings.ToUpper(err.Error()[:1]) + err.Error()[1:] + "."
	if errors.Is(err, twiliohook.ErrSignature) {
		// The URL is no secret, and it is what most often is not the one that
		// Twilio was given.
		if u, err := a.Twilio.URL(r); err == nil {
			detail += " It was checked against " + clip(u) + "; that has to be, letter for letter, the URL that Twilio was given, and TWILIO_AUTH_TOKEN the account's."
		}
	}
	problem.Write(w, problem.Problem{Status: status, Detail: detail})
}

// sms takes an incoming SMS. The workflow sends the reply; so the answer is
// the same whatever becomes of it, and the same for a message that comes
// again, while its run is open and after it has closed.
func (a *api) sms(w http.ResponseWriter, r *http.Request) {
	form, ok := a.twilioForm(w, r)
	if !ok {
		return
	}
	in, err := twiliohook.ParseInbound(message.ChannelSMS, form, time.Now())
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	if _, _, err := a.converse(r.Context(), message.ConversationInput{Message: in, StatusCallback: a.statusURL(r, in)}); err != nil {
		a.temporalError(w, r, err)
		return
	}
	twiliohook.Write(w, twiliohook.Nothing)
}

// statusURL is where Twilio is to report what becomes of the reply to in; ""
// where that cannot be known. It names the run, and Twilio signs it with the
// rest.
func (a *api) statusURL(r *http.Request, in message.Inbound) string {
	base, ok := a.publicBase(r)
	if !ok {
		return ""
	}
	return message.CallbackURL(base+statusPath, message.ConversationID(in.Channel, in.SID))
}

// publicBase is the base under which Twilio reaches this service.
func (a *api) publicBase(r *http.Request) (string, bool) {
	if a.Twilio == nil {
		return "", false
	}
	base, err := a.Twilio.Base(r)
	return base, err == nil
}

// status takes what Twilio says of a message that was sent: it is kept with
// the message, and the run that sent it is told, if it is still open.
func (a *api) status(w http.ResponseWriter, r *http.Request) {
	form, ok := a.twilioForm(w, r)
	if !ok {
		return
	}
	receipt, err := twiliohook.ParseStatus(form)
	if err != nil {
		a.refuse(w, r, err)
		return
	}
	a.metrics.delivery.WithLabelValues(statusLabel(receipt.Status)).Inc()
	ctx, cancel := context.WithTimeout(r.Context(), a.Timeout)
	defer cancel()
	if a.Receipts != nil {
		_, err = a.Receipts.UpdateStatus(ctx, receipt)
	}
	if id := message.CallbackWorkflow(r.URL); id != "" {
		err = errors.Join(err, ended(a.Temporal.SignalWorkflow(ctx, id, "", message.StatusSignal, receipt)))
	}
	if err != nil {
		a.Logger.Error("a delivery status was not taken", "sid", receipt.SID, "status", receipt.Status, "error", err)
		w.Header().Set("Retry-After", "1")
		problem.Write(w, problem.Problem{
			Status: http.StatusServiceUnavailable,
			Detail: "The status could not be kept; try again. The server's log says why.",
		})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// ended takes the error of telling a run that is over for none: what it was
// to be told is kept with the message.
func ended(err error) error {
	if notFound := (*serviceerror.NotFound)(nil); errors.As(err, &notFound) {
		return nil
	}
	return err
}

// statusLabel bounds the label: Twilio's words may become more.
func statusLabel(s message.Status) string {
	if s.Known() {
		return string(s)
	}
	return "other"
}
