package message

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Inbound is a message that came in.
type Inbound struct {
	Channel Channel `json:"channel"`
	// SID names the message, uniquely within its channel: Twilio's
	// MessageSid, a mail's Message-ID.
	SID  string  `json:"sid"`
	From Address `json:"from"`
	// To is the address of ours that it was sent to.
	To   Address `json:"to"`
	Text string  `json:"text"`
	// ReceivedAt is when the API took it, in UTC.
	ReceivedAt time.Time `json:"received_at"`
}

// Format hides the text and masks the addresses, whatever the verb.
func (m Inbound) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, fmt.Sprintf("%s message %s from %s: %s", m.Channel, m.SID, m.From, HideText(m.Text, false)))
}

// LogValue hides the text and masks the addresses.
func (m Inbound) LogValue() slog.Value {
	return slog.GroupValue(slog.String("channel", string(m.Channel)), slog.String("sid", m.SID),
		slog.Any("from", m.From), slog.String("text", HideText(m.Text, false)))
}

// Outgoing is a message that is to be sent once.
type Outgoing struct {
	Channel Channel `json:"channel"`
	// From is the address of ours that sends; "" is the sender's default.
	From Address `json:"from,omitempty"`
	To   Address `json:"to"`
	Text string  `json:"text"`
	// Key names the intent to send: the workflow ID and a counter. Two
	// messages that are both to be sent have different keys; two tries of one
	// have the same.
	Key string `json:"key"`
	// StatusCallback is where the carrier reports what becomes of it; "" is
	// nowhere.
	StatusCallback string `json:"status_callback,omitempty"`
}

// Format hides the text and masks the addresses, whatever the verb.
func (m Outgoing) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, fmt.Sprintf("%s message %s to %s: %s", m.Channel, m.Key, m.To, HideText(m.Text, false)))
}

// LogValue hides the text and masks the addresses.
func (m Outgoing) LogValue() slog.Value {
	return slog.GroupValue(slog.String("channel", string(m.Channel)), slog.String("key", m.Key),
		slog.Any("to", m.To), slog.String("text", HideText(m.Text, false)))
}

// Receipt is what is known of a message that was sent.
type Receipt struct {
	// SID is the carrier's name of it.
	SID    string `json:"sid"`
	Status Status `json:"status"`
	// ErrorCode is Twilio's, on failed and undelivered; 0 is none.
	ErrorCode int `json:"error_code,omitempty"`
}

// Newer returns the receipt that holds after other has come in too, in
// whatever order the two were reported.
func (r Receipt) Newer(other Receipt) Receipt {
	if other.Status.After(r.Status) {
		return other
	}
	return r
}

// Status is how far a message has come, in Twilio's words.
type Status string

// The statuses. StatusReceived is an inbound message's.
const (
	StatusAccepted    Status = "accepted"
	StatusScheduled   Status = "scheduled"
	StatusQueued      Status = "queued"
	StatusSending     Status = "sending"
	StatusSent        Status = "sent"
	StatusDelivered   Status = "delivered"
	StatusUndelivered Status = "undelivered"
	StatusFailed      Status = "failed"
	StatusCanceled    Status = "canceled"
	StatusReceived    Status = "received"
	StatusRead        Status = "read"
)

// rank orders the statuses. An unknown one is below all, so that it never
// replaces one that is understood.
func (s Status) rank() int {
	switch s {
	case StatusAccepted, StatusScheduled:
		return 1
	case StatusQueued:
		return 2
	case StatusSending:
		return 3
	case StatusSent:
		return 4
	case StatusDelivered, StatusUndelivered, StatusFailed, StatusCanceled, StatusReceived:
		return 5
	case StatusRead:
		return 6
	}
	return 0
}

// Known reports whether s is one of the statuses above.
func (s Status) Known() bool { return s.rank() > 0 }

// Final reports whether the message's fate is known. A delivered message may
// still be read.
func (s Status) Final() bool { return s.rank() >= 5 }

// After reports whether s lies behind t on a message's way: callbacks arrive
// in any order, and one that is not after what is known changes nothing. Of
// two fates the first holds.
func (s Status) After(t Status) bool { return s.rank() > t.rank() }
