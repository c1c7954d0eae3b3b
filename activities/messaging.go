package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/conversation"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/reporter"
)

// Messenger sends messages. It makes one attempt a call; its errors wrap
// those of package message.
type Messenger interface {
	Send(ctx context.Context, out message.Outgoing) (message.Receipt, error)
	// Find looks for what an earlier attempt may have sent, not before since.
	// It returns all that look like it, the oldest first.
	Find(ctx context.Context, out message.Outgoing, since time.Time) ([]message.Receipt, error)
}

// Messaging are the side effects of the messaging application. Its methods
// are activities.
type Messaging struct {
	Store *conversation.Store
	Team  agents.Team
	// Carrier sends to telephones; nil: the outbox takes everything.
	Carrier Messenger
	// Zone is where people are of whom no reminder has said it; nil is UTC.
	Zone *time.Location
	// Workdays are the days of the week that owe hours; nil: Monday to Friday.
	Workdays []time.Weekday
	// ShowText shows in progress what people write and are answered. Without
	// it only the length of texts is seen.
	ShowText bool
	// SendFor bounds one attempt to send; 0: 15 s. It has to be below the
	// activity's timeout, SendTimeout.
	SendFor time.Duration
}

// ModelBusy is the type of the error of a model's endpoint that says when to
// ask it again.
const ModelBusy = "ModelBusy"

// The types of errors that no retry mends.
const (
	OptedOut     = "OptedOut"
	BadNumber    = "BadNumber"
	Refused      = "Refused"
	ModelRefused = "ModelRefused"
	NoSuchAgent  = "NoSuchAgent"
)

// Recalled is what is known of a person when a message comes.
type Recalled struct {
	OptedOut bool          `json:"opted_out,omitempty"`
	Memory   []agents.Turn `json:"memory,omitempty"`
	// Now is when the message came, in the person's time zone, which Zone
	// names; "" is the worker's.
	Now  time.Time `json:"now"`
	Zone string    `json:"zone,omitempty"`
	// Awaiting are the workflows that wait for the person's hours.
	Awaiting []string `json:"awaiting,omitempty"`
}

// recalled is how many of the last turns the agents are told of.
const recalled = 6

// Recall returns what is known of who wrote a message.
func (m *Messaging) Recall(ctx context.Context, in message.Inbound) (Recalled, error) {
	var r Recalled
	var err error
	if r.Zone, err = m.Store.Zone(ctx, in.From); err != nil {
		return r, err
	}
	r.Now = in.ReceivedAt.In(m.zone(r.Zone))
	if r.OptedOut, err = m.Store.OptedOut(ctx, in.From); err != nil {
		return r, err
	}
	if r.Memory, err = m.Store.Memory(ctx, in.From); err != nil {
		return r, err
	}
	// Each agent is given them, and each gift is kept in the history.
	r.Memory = r.Memory[max(0, len(r.Memory)-recalled):]
	r.Awaiting, err = m.Store.Awaiting(ctx, in.From)
	return r, err
}

// zone returns the named time zone, or where it has no name, or one that is
// not known any more, the worker's.
func (m *Messaging) zone(name string) *time.Location {
	if name != "" {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone
		}
	}
	if m.Zone == nil {
		return time.UTC
	}
	return m.Zone
}

// AgentInput says which agent does what.
type AgentInput struct {
	Agent agents.Name `json:"agent"`
	Task  agents.Task `json:"task"`
}

// RunAgent has an agent do a task, and shows it at work.
func (m *Messaging) RunAgent(ctx context.Context, in AgentInput) (agents.Finding, error) {
	agent, ok := m.Team[in.Agent]
	if !ok {
		return agents.Finding{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf("there is no agent %q", in.Agent), NoSuchAgent, nil)
	}
	in.Task.Now = in.Task.Now.In(m.zone(in.Task.Zone))
	p := reporter.Activity(ctx)
	w := &shown{a: p, step: p.Step(""), show: m.ShowText}
	f, err := agent.Run(ctx, in.Task, w)
	if errors.Is(err, agents.ErrModelRefused) {
		return f, temporal.NewNonRetryableApplicationError(err.Error(), ModelRefused, nil)
	} else if after := agents.RetryAfter(err); after > 0 {
		return f, temporal.NewApplicationErrorWithOptions(err.Error(), ModelBusy, temporal.ApplicationErrorOptions{NextRetryDelay: after})
	} else if err != nil {
		return f, err
	}
	w.end()
	return f, nil
}

// shown shows an agent at work as progress of its activity.
type shown struct {
	a    *reporter.ActivityReporter
	step *reporter.StepReporter
	show bool
	// hidden is the text that is not shown.
	hidden string
}

func (s *shown) Thought(general, detail string) {
	if s.show {
		general = detail
	}
	s.step.Message(general)
	s.step.Log(general)
}

func (s *shown) Output(piece string) {
	if s.show {
		s.step.Output(piece)
	} else {
		s.hidden += piece
	}
}

// end says how long a text is that was not shown.
func (s *shown) end() {
	if s.hidden != "" {
		s.step.Output(message.HideText(s.hidden, false))
	}
}

// RememberInput is a turn of a conversation.
type RememberInput struct {
	Who  message.Address `json:"who"`
	Key  string          `json:"key"`
	Turn agents.Turn     `json:"turn"`
}

// Remember keeps a turn of the conversation.
func (m *Messaging) Remember(ctx context.Context, in RememberInput) error {
	return m.Store.Remember(ctx, in.Who, in.Key, in.Turn)
}

// OptOut notes that a person wants no messages.
func (m *Messaging) OptOut(ctx context.Context, who message.Address) error {
	return m.Store.OptOut(ctx, who)
}

// OptIn notes that a person wants messages again, and reports whether that is
// a change.
func (m *Messaging) OptIn(ctx context.Context, who message.Address) (bool, error) {
	return m.Store.OptIn(ctx, who)
}

// KeepStatus keeps what the carrier says of a message and returns what holds.
func (m *Messaging) KeepStatus(ctx context.Context, r message.Receipt) (message.Receipt, error) {
	return m.Store.UpdateStatus(ctx, r)
}

// DueInput asks for the hours that a person owes for a day.
type DueInput struct {
	Who message.Address `json:"who"`
	// Zone is the person's time zone; "" is the worker's.
	Zone string `json:"zone,omitempty"`
	// At is a time of the day.
	At time.Time `json:"at"`
	// Owed is what a working day owes.
	Owed float64 `json:"owed"`
	// Workflow, if not empty, is noted as waiting for them.
	Workflow string `json:"workflow,omitempty"`
}

// Due is what a person owes.
type Due struct {
	Day string `json:"day"`
	// Missing is how many hours; 0 on days that owe nothing.
	Missing  float64 `json:"missing"`
	OptedOut bool    `json:"opted_out,omitempty"`
}

// DueHours returns how many hours a person owes, and notes the person's time
// zone. Days that are no workdays owe nothing.
func (m *Messaging) DueHours(ctx context.Context, in DueInput) (Due, error) {
	zone := m.zone("")
	if in.Zone != "" {
		var err error
		if zone, err = time.LoadLocation(in.Zone); err != nil {
			return Due{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf("%q is no time zone such as Australia/Sydney", in.Zone), "BadTimeZone", nil)
		}
		if err := m.Store.KeepZone(ctx, in.Who, in.Zone); err != nil {
			return Due{}, err
		}
	}
	day := in.At.In(zone)
	due := Due{Day: day.Format(time.DateOnly)}
	var err error
	if due.OptedOut, err = m.Store.OptedOut(ctx, in.Who); err != nil {
		return due, err
	}
	if !m.owes(day.Weekday()) {
		return due, nil
	}
	entries, err := m.Store.Between(ctx, in.Who, due.Day, due.Day)
	if err != nil {
		return due, err
	}
	due.Missing = in.Owed
	for _, e := range entries {
		due.Missing -= e.Hours
	}
	due.Missing = max(due.Missing, 0)
	if in.Workflow != "" && due.Missing > 0 {
		return due, m.Store.Await(ctx, in.Who, in.Workflow)
	}
	return due, nil
}

// owes reports whether a day of the week owes hours.
func (m *Messaging) owes(day time.Weekday) bool {
	if m.Workdays == nil {
		return day != time.Saturday && day != time.Sunday
	}
	return slices.Contains(m.Workdays, day)
}

// AwaitNoMore says that the workflow in.Workflow waits no more.
func (m *Messaging) AwaitNoMore(ctx context.Context, in DueInput) error {
	return m.Store.AwaitNoMore(ctx, in.Who, in.Workflow)
}
