// Package webhook sends and checks webhooks: JSON by POST, signed as Standard
// Webhooks has it, within bounds of time and size, and to no address that the
// operator would not want called.
//
// It knows no Redis and no Temporal; see package delivery for those.
package webhook

import "time"

// Message is one webhook.
type Message struct {
	// ID names it: what is sent again carries the same, so that a receiver can
	// drop doubles. See [CheckID].
	ID string
	// URL takes it.
	URL string
	// Body is JSON, up to [MaxBody] bytes.
	Body []byte
}

// Bounds of what is sent and taken.
const (
	MaxBody = 64 << 10
	MaxURL  = 2000
	MaxID   = 100
)

// Letter is a message that could not be delivered.
type Letter struct {
	// ID is the message's.
	ID string `json:"id"`
	// URL is where it is sent when the letter is replayed; lists have it as
	// [Redacted] shows it.
	URL string `json:"url"`
	// Body is what is sent when the letter is replayed; lists leave it out.
	Body []byte `json:"-"`
	// WorkflowID and RunID are of the run that it tells of.
	WorkflowID string `json:"workflow_id,omitempty"`
	RunID      string `json:"run_id,omitempty"`
	// Subscriber is the ID of whose message it is.
	Subscriber string `json:"subscriber,omitempty"`
	// Reason is why the last attempt failed, or why there was none.
	Reason string `json:"reason"`
	// Attempts counts those that were made, replays included.
	Attempts int `json:"attempts"`
	// Time is when the letter was written, Last when it was tried last.
	Time time.Time `json:"time"`
	Last time.Time `json:"last,omitzero"`
}
