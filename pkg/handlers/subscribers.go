package handlers

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"
)

const (
	// maxIDBytes and maxURLBytes bound what a stranger makes a run remember.
	maxIDBytes  = 200
	maxURLBytes = 2000
)

// subscribers are who is told of changes, in the order in which they came. A
// slice, since workflow code must go through them in the same order always.
type subscribers []Subscription

// takeSubscriptions takes the signals for as long as the run lasts.
func (h *Handlers) takeSubscriptions(ctx workflow.Context) {
	s := workflow.NewSelector(ctx)
	s.AddReceive(workflow.GetSignalChannel(ctx, Subscribe), func(c workflow.ReceiveChannel, _ bool) {
		var sub Subscription
		if c.ReceiveAsync(&sub) {
			h.subscribers.add(sub, workflow.Now(ctx))
		}
	})
	s.AddReceive(workflow.GetSignalChannel(ctx, Unsubscribe), func(c workflow.ReceiveChannel, _ bool) {
		var sub Subscription
		if c.ReceiveAsync(&sub) {
			h.subscribers.remove(sub.ID)
		}
	})
	for {
		s.Select(ctx)
	}
}

// add takes or renews a subscription; one that makes no sense, or is over, is
// left out.
func (l *subscribers) add(s Subscription, now time.Time) {
	if s.ID == "" || len(s.ID) > maxIDBytes || s.URL == "" || len(s.URL) > maxURLBytes {
		return
	}
	latest := now.Add(MaxSubscription)
	if s.Until.IsZero() || s.Until.After(latest) {
		s.Until = latest
	}
	l.remove(s.ID)
	l.at(now)
	if !s.Until.After(now) {
		return
	}
	if len(*l) >= MaxSubscribers {
		first := slices.MinFunc(*l, func(a, b Subscription) int { return a.Until.Compare(b.Until) })
		l.remove(first.ID)
	}
	*l = append(*l, s)
}

func (l *subscribers) remove(id string) {
	*l = slices.DeleteFunc(*l, func(s Subscription) bool { return s.ID == id })
}

// at drops those that have expired and returns the others, for the caller to
// keep.
func (l *subscribers) at(now time.Time) []Subscription {
	*l = slices.DeleteFunc(*l, func(s Subscription) bool { return !s.Until.After(now) })
	return slices.Clone(*l)
}
