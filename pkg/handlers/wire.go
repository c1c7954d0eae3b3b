// Package handlers lets a run be followed through Temporal itself: a query, an
// update and two signals, by whose names and forms package strategy follows
// it. Workflow code embeds them with [Install], or gets them from the plugin
// (package reporter) without a line of its own.
//
// It knows no Redis and no HTTP.
package handlers

import (
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// The names under which a run can be followed.
const (
	// Query returns the [State].
	Query = "runcast.progress"
	// Update takes a [Wait] and returns the [State] once it is newer.
	Update = "runcast.next"
	// Subscribe and Unsubscribe are signals, with a [Subscription].
	Subscribe   = "runcast.subscribe"
	Unsubscribe = "runcast.unsubscribe"
	// NotifyActivity and PushActivity are the activities that tell
	// subscribers: that something changed, or what.
	NotifyActivity = "runcast.Notify"
	PushActivity   = "runcast.Push"
)

// State is how far a run is, as its own code knows it. It carries all of it,
// so a newer one replaces the older.
type State struct {
	// Started is when the run began, in Unix ms: its first live task.
	Started int64 `json:"started"`
	// Version counts the changes since, from 1. It counts the same in a
	// replay.
	Version int64 `json:"version"`
	// Time is when the newest change was.
	Time time.Time `json:"time"`

	RunID string `json:"run_id"`
	Chain string `json:"chain"`
	Type  string `json:"type"`

	Percent *float64 `json:"percent,omitempty"`
	Current *int64   `json:"current,omitempty"`
	Total   *int64   `json:"total,omitempty"`
	// Step is the step that changed last, StepStatus what became of it.
	Step       string          `json:"step,omitempty"`
	StepStatus progress.Status `json:"step_status,omitempty"`
	Message    string          `json:"message,omitempty"`
	Tags       []string        `json:"tags,omitempty"`
	// Returned is set once the workflow function has returned: how, as the
	// function sees it. Whether that was accepted, only Temporal knows.
	Returned progress.Status `json:"returned,omitempty"`
}

// Position returns the state's place: the run's start and the version.
func (s *State) Position() progress.Position {
	return progress.Position{Epoch: s.Started, Seq: s.Version}
}

// Wait asks for a state that is newer than one of this run.
type Wait struct {
	// Started and Version name the state that the caller has. One of another
	// run is answered at once, but one of a run that was reset to this one is
	// refused: with [RefusedReset].
	Started int64 `json:"started"`
	Version int64 `json:"version"`
}

// Subscription asks to be told of changes from outside.
type Subscription struct {
	// ID names the subscriber: subscribing again renews, unsubscribing ends.
	// Those that begin with "push-" are for the URLs of [PushMemo].
	ID string `json:"id"`
	// URL takes what is sent: a POST.
	URL string `json:"url"`
	// Push sends the [State]; without, only that there is a newer version.
	Push bool `json:"push,omitempty"`
	// Transient says that only the newest state is of use, and none later:
	// what cannot be pushed is dropped, and is no dead letter. What is only
	// notified never is.
	Transient bool `json:"transient,omitempty"`
	// Until is when it expires, by the workflow's clock; it is bounded by
	// [MaxSubscription]. Unsubscribing ends what expires until then, or with the
	// zero time all: signals of two names that come in one task have no order, so
	// that who comes again right behind has to say which one it ends.
	Until time.Time `json:"until"`
}

// NoStrategy is in the place of a strategy where there is none: for the URLs of
// [PushMemo], and for subscribers who keep what they are sent.
const NoStrategy = "none"

// The names of the strategies of package strategy that subscribe.
const (
	SignalStrategy = "signal"
	PushStrategy   = "push"
)

// Strategies returns what [Subscription.Strategy] may.
func Strategies() []string { return []string{SignalStrategy, PushStrategy, NoStrategy} }

// Strategy names the strategy of package strategy whose watchers subscribe in
// this way, or is [NoStrategy]. It is for counting: anybody may subscribe as
// they do.
func (s *Subscription) Strategy() string {
	switch {
	case !s.Transient:
		return NoStrategy
	case s.Push:
		return PushStrategy
	}
	return SignalStrategy
}

// The types of the errors with which the update is refused, as Temporal's
// application errors carry them.
const (
	// RefusedInput: what was asked for makes no sense, and never will.
	RefusedInput = "runcast.BadInput"
	// RefusedWaiting: as many wait as may.
	RefusedWaiting = "runcast.TooManyWaiting"
	// RefusedTotal: the run has taken as many updates as it may.
	RefusedTotal = "runcast.TooManyUpdates"
	// RefusedReset: the state is of a run that was reset to this one. A query
	// gives one of this run.
	RefusedReset = "runcast.Reset"
)

const (
	// MaxSubscription bounds how long a subscription lasts unless renewed.
	MaxSubscription = 10 * time.Minute
	// MaxSubscribers bounds those of one run. Who comes beyond it has no place
	// until another expires or leaves.
	MaxSubscribers = 20
)
