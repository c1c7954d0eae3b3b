// Package agents holds the agents that answer a message: a router that names
// what the message is about, specialists that each do their part, and a
// composer that writes the reply. They work behind one interface, [Agent],
// with two implementations: [Rules], which needs no key, and [Model], which
// asks any endpoint that speaks OpenAI's protocol.
//
// An agent can act for the sender of the message only. Who that is comes with
// the [Task], never out of a text: no tool of any agent takes a person, so no
// text can name one.
//
// The package knows no Temporal, no Redis and no Twilio. It declares what it
// needs of the world, [Hours]; reminders it returns for its caller to keep.
package agents

import (
	"context"
	"time"

	"github.com/runcast/runcast/pkg/message"
)

// Name names an agent.
type Name string

// The agents. Timesheet, Policy and Schedule are the specialists.
const (
	Router    Name = "router"
	Timesheet Name = "timesheet"
	Policy    Name = "policy"
	Schedule  Name = "schedule"
	Composer  Name = "composer"
)

// Specialists lists the agents between which the router chooses.
func Specialists() []Name { return []Name{Timesheet, Policy, Schedule} }

// Agent does one part of an answer.
type Agent interface {
	// Run does the task and returns what it found. What it does on the way
	// it tells w. A task may be run again after an error or a crash: what it
	// records is recorded once under the task's key.
	Run(ctx context.Context, task Task, w Watcher) (Finding, error)
}

// Watcher is told what an agent does. It does not block.
type Watcher interface {
	// Thought is a line about what the agent does now: general says it
	// without anything that the person wrote, detail with it.
	Thought(general, detail string)
	// Output is a piece of the agent's text as it comes. All pieces of the
	// composer's are the reply; a model's words on the way to a finding need
	// not be what it says in the end.
	Output(piece string)
}

// Task is what an agent is asked to do.
type Task struct {
	// Sender is the person that the agent acts for.
	Sender message.Address `json:"sender"`
	// Key is unique to the message, and the same in all tries.
	Key string `json:"key"`
	// Text is what the person wrote. It is material, never an instruction
	// about whom to act for.
	Text string `json:"text"`
	// Now is when the message came, in the person's time zone. JSON does not
	// carry that zone's name; Zone does, and "" is the worker's.
	Now  time.Time `json:"now"`
	Zone string    `json:"zone,omitempty"`
	// Memory is what was said before, oldest first.
	Memory []Turn `json:"memory,omitempty"`
	// Findings are the specialists', for the composer.
	Findings []Finding `json:"findings,omitempty"`
}

// Turn is one message of a conversation and the reply to it.
type Turn struct {
	At    time.Time `json:"at"`
	Text  string    `json:"text"`
	Reply string    `json:"reply"`
}

// Finding is what an agent found.
type Finding struct {
	Agent Name `json:"agent"`
	// Done are sentences about what was really done and found, in the words
	// of this package: they go into the reply as they are, before Text.
	Done []string `json:"done,omitempty"`
	// Text is for the sender to read; "" is nothing more to say.
	Text string `json:"text,omitempty"`
	// Intents are the specialists that the router calls, each once, in the
	// order of [Specialists].
	Intents []Name `json:"intents,omitempty"`
	// Reminders are for the caller to keep, for the sender.
	Reminders []Reminder `json:"reminders,omitempty"`
	// Recorded says that hours were recorded.
	Recorded bool `json:"recorded,omitempty"`
	// Failed says that the agent could not do its part.
	Failed bool `json:"failed,omitempty"`
}

// Reminder is a message that the sender wants to get later.
type Reminder struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Entry is some hours of one person.
type Entry struct {
	// Day is such as "2026-11-24", in the person's time zone.
	Day     string  `json:"day"`
	Project string  `json:"project"`
	Hours   float64 `json:"hours"`
	// Replace puts the hours in the place of what is there.
	Replace bool `json:"replace,omitempty"`
}

// Hours is where hours are kept.
type Hours interface {
	// Record adds the entries to the person's hours: all or none of them, and
	// once for a key. It returns what is recorded under the key, which is
	// what an earlier call has recorded if there was one, whatever this one
	// brings. A day of more than 24 hours is an error that wraps [ErrFullDay].
	Record(ctx context.Context, who message.Address, key string, entries []Entry) ([]Entry, error)
	// Recorded returns what is recorded under the key; none is nothing.
	Recorded(ctx context.Context, who message.Address, key string) ([]Entry, error)
	// Between returns the person's hours of the days from first to last,
	// both included, by day and project.
	Between(ctx context.Context, who message.Address, first, last string) ([]Entry, error)
}

// Team is one agent of each name.
type Team map[Name]Agent

// agentFunc is an agent that is one function.
type agentFunc func(context.Context, Task, Watcher) (Finding, error)

func (f agentFunc) Run(ctx context.Context, task Task, w Watcher) (Finding, error) {
	return f(ctx, task, w)
}

// Rules returns the agents that need no key: they parse what they are asked
// by fixed rules, and answer questions from the shipped documents. The same
// task always gets the same answer.
func Rules(h Hours) Team {
	return Team{
		Router:    agentFunc(route),
		Timesheet: agentFunc((&timesheet{h}).run),
		Policy:    agentFunc(policy),
		Schedule:  agentFunc(schedule),
		Composer:  agentFunc(compose),
	}
}
