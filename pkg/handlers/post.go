package handlers

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// The types of [Post].
const (
	// ProgressPost carries a state.
	ProgressPost = "runcast.progress"
	// ChangedPost says that there is a newer one: of its data only what names
	// the run and the version is set.
	ChangedPost = "runcast.changed"
)

// Post is what a subscriber is sent: the body of a webhook.
type Post struct {
	Type string `json:"type"`
	// Timestamp is when the state was, as in Data.
	Timestamp time.Time `json:"timestamp"`
	// Subscriber is the subscription's ID.
	Subscriber string `json:"subscriber"`
	WorkflowID string `json:"workflow_id"`
	// Last says that the run sends no more until it returns: it has sent as
	// much as it may.
	Last bool  `json:"last,omitempty"`
	Data State `json:"data"`
}

// Strategy names the strategy whose watchers are sent such a post; "" is a type
// that there is not.
func (p *Post) Strategy() string {
	switch p.Type {
	case ChangedPost:
		return SignalStrategy
	case ProgressPost:
		return PushStrategy
	}
	return ""
}

// Delivery is what [NotifyActivity] and [PushActivity] take.
type Delivery struct {
	Subscription Subscription `json:"subscription"`
	State        State        `json:"state"`
	// Last is as in [Post].
	Last bool `json:"last,omitempty"`
	// Attempts is how many there are at most; behind the last one what could
	// not be pushed becomes a dead letter.
	Attempts int `json:"attempts,omitempty"`
	// PatienceMS is how long, in ms, the push may wait because its receiver
	// asks for it; longer, and it becomes a dead letter at once.
	PatienceMS int64 `json:"patience_ms,omitempty"`
	// Bury makes it a dead letter without an attempt, for this reason: those
	// before ended without a word.
	Bury string `json:"bury,omitempty"`
}

// The types of the errors of the activities, as Temporal's application errors
// carry them.
const (
	// Gone: the subscriber wants nothing any more.
	Gone = "runcast.Gone"
	// Undelivered: it failed, and nothing is kept of it.
	Undelivered = "runcast.Undelivered"
	// DeadLetter: it failed for good, and is kept among the dead letters.
	DeadLetter = "runcast.DeadLetter"
)

// MessageID returns the ID of the webhook that tells a subscriber of a state,
// at one URL: the same whenever it is sent, be it by a retry, a replay of the
// history, or from the dead letters. A task that failed may have counted
// otherwise than the one in its place, so the state's time is in it.
func (d *Delivery) MessageID() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%q\x00%q\x00%d\x00%d\x00%s\x00%t\x00%t",
		d.State.RunID, d.Subscription.ID, d.Subscription.URL, d.State.Version, d.State.Time.UnixNano(), d.State.Returned, d.Subscription.Push, d.Last))
	return "msg_" + hex.EncodeToString(sum[:16])
}
