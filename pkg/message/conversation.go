package message

import "time"

// Names by which the API and the workflows meet: the API knows no workflow
// code.
const (
	// ConversationWorkflow takes a [ConversationInput] and returns a
	// [ConversationResult].
	ConversationWorkflow = "MultiAgentConversationWorkflow"
	// ReminderWorkflow takes a [ReminderInput].
	ReminderWorkflow = "TimesheetReminderWorkflow"
	// DailyWorkflow takes a [DailyInput].
	DailyWorkflow = "DailyReminderScheduleWorkflow"

	// ClaimUpdate is the Update by which somebody who waits takes over the
	// answer. It takes nothing and returns a [Claim]; the workflow's
	// validator rejects it until the reply is ready.
	ClaimUpdate = "claim_answer"
	// StatusSignal carries a [Receipt] to the run that sent the message.
	StatusSignal = "delivery_status"
)

// ConversationInput is the argument of the conversation.
type ConversationInput struct {
	Message Inbound `json:"message"`
	// Wait is how long after the start somebody may claim the answer; after
	// that, or without a claim, the workflow sends the reply. 0: the workflow
	// sends.
	Wait time.Duration `json:"wait,omitempty"`
	// StatusCallback is where the carrier reports what becomes of the reply.
	StatusCallback string `json:"status_callback,omitempty"`
}

// ConversationResult is what a conversation returns.
type ConversationResult struct {
	// Reply is the text of the answer; "" is none.
	Reply string `json:"reply"`
	// Sent reports whether the workflow sent it. Not sent and not empty: it
	// was claimed.
	Sent bool `json:"sent"`
	// Receipt is what is known of the message that was sent.
	Receipt Receipt `json:"receipt,omitzero"`
}

// Claim is the answer to [ClaimUpdate]. Whoever gets Claimed answers with
// Reply; nobody else does.
type Claim struct {
	Reply   string `json:"reply"`
	Claimed bool   `json:"claimed"`
}

// ConversationID returns the workflow ID of the conversation that a message
// starts. It is made from the message's SID, so that a message delivered
// twice starts nothing twice.
func ConversationID(channel Channel, sid string) string { return string(channel) + "-" + sid }

// ReminderInput is the argument of a reminder: one person is asked for the
// hours that are missing.
type ReminderInput struct {
	Channel Channel `json:"channel"`
	// To is who is reminded.
	To Address `json:"to"`
	// From is the address of ours that sends; "" is the sender's default.
	From Address `json:"from,omitempty"`
	// Name is how the person is spoken to; "" is not at all.
	Name string `json:"name,omitempty"`
	// TimeZone is the person's, an IANA name; "" is the worker's.
	TimeZone string `json:"time_zone,omitempty"`
	// Hours is what a working day owes; 0 is 8.
	Hours float64 `json:"hours,omitempty"`
	// Wait is how long each reminder waits for an answer; 0 is 2 h.
	Wait time.Duration `json:"wait,omitempty"`
	// Reminders is how many are sent before it is escalated; 0 is 2.
	Reminders int `json:"reminders,omitempty"`
	// EscalateTo is told when nobody answers; "" is nobody.
	EscalateTo Address `json:"escalate_to,omitempty"`
	// StatusCallback is where the carrier reports what becomes of them.
	StatusCallback string `json:"status_callback,omitempty"`
}

// DailyInput is the argument of the daily reminders: one [ReminderInput] a
// person.
type DailyInput struct {
	Users []ReminderInput `json:"users"`
	// Parallel is how many are reminded at once; 0 is 10.
	Parallel int `json:"parallel,omitempty"`
}
