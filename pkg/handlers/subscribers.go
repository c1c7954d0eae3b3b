package handlers

import (
	"slices"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
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

// takeSubscriptions takes the signals for as long as the run lasts, also once
// it was canceled.
func (h *Handlers) takeSubscriptions(ctx workflow.Context) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	s := workflow.NewSelector(ctx)
	s.AddReceive(workflow.GetSignalChannel(ctx, Subscribe), func(c workflow.ReceiveChannel, _ bool) {
		var sub Subscription
		switch {
		case !c.ReceiveAsync(&sub):
		case h.subscribers.add(&sub, workflow.Now(ctx)):
			h.deliveries.subscribed(ctx, sub)
		case !h.subscribers.has(sub.ID, workflow.Now(ctx)):
			h.deliveries.unsubscribed(sub.ID)
		}
	})
	s.AddReceive(workflow.GetSignalChannel(ctx, Unsubscribe), func(c workflow.ReceiveChannel, _ bool) {
		var sub Subscription
		if c.ReceiveAsync(&sub) {
			h.subscribers.leave(&sub)
			h.deliveries.unsubscribed(sub.ID)
		}
	})
	// It has no signal in hand while it waits: whoever returns in the task in
	// which one comes finds it in its channel.
	for workflow.Await(ctx, s.HasPending) == nil {
		s.Select(ctx)
	}
}

// dropUnsubscribed drops who has unsubscribed in the task in which the run ends:
// takeSubscriptions has its turn behind the workflow's own code.
func (h *Handlers) dropUnsubscribed(ctx workflow.Context) {
	var sub Subscription
	for c := workflow.GetSignalChannel(ctx, Unsubscribe); c.ReceiveAsync(&sub); sub = (Subscription{}) {
		h.subscribers.leave(&sub)
		h.deliveries.unsubscribed(sub.ID)
	}
}

// The header of a run that continues another has the subscribers of that one
// under CarriedHeader, and its run ID under CarrierHeader: a run that tries one
// again, or repeats it, begins with the same header, and has them no more.
const (
	CarriedHeader = "runcast-subscribers"
	CarrierHeader = "runcast-subscribers-of"
)

// Carry returns the subscribers for the run that goes on as new from here; nil
// if there are none.
func (h *Handlers) Carry(ctx workflow.Context) *commonpb.Payload {
	// Whoever has just come is not taken by this run any more.
	var sub Subscription
	for c := workflow.GetSignalChannel(ctx, Subscribe); c.ReceiveAsync(&sub); sub = (Subscription{}) {
		h.subscribers.add(&sub, workflow.Now(ctx))
	}
	h.dropUnsubscribed(ctx)
	list := h.subscribers.at(workflow.Now(ctx))
	if len(list) == 0 {
		return nil
	}
	p, err := h.opt.DataConverter.ToPayload(list)
	if err != nil {
		workflow.GetLogger(ctx).Warn("subscribers are not carried over; they have to subscribe anew", "error", err)
		return nil
	}
	return p
}

// takeCarried takes the subscribers of the run before.
func (h *Handlers) takeCarried(ctx workflow.Context) {
	if h.opt.Carried == nil {
		return
	}
	var list []Subscription
	if err := h.opt.DataConverter.FromPayload(h.opt.Carried, &list); err != nil {
		workflow.GetLogger(ctx).Warn("subscribers cannot be taken over; they have to subscribe anew", "error", err)
		return
	}
	for _, s := range list {
		if h.subscribers.add(&s, workflow.Now(ctx)) {
			h.deliveries.subscribed(ctx, s)
		}
	}
}

// add takes or renews a subscription, and bounds it; one that makes no sense,
// is over or has no place is left out: whoever gets no first message knows, and
// who is told already goes on being told.
func (l *subscribers) add(s *Subscription, now time.Time) bool {
	if s.ID == "" || len(s.ID) > maxIDBytes || strings.HasPrefix(s.ID, keptPrefix) || s.URL == "" || len(s.URL) > maxURLBytes {
		return false
	}
	latest := now.Add(MaxSubscription)
	if s.Until.IsZero() || s.Until.After(latest) {
		s.Until = latest
	}
	l.remove(s.ID)
	l.at(now)
	if !s.Until.After(now) {
		return false
	}
	if len(*l) >= MaxSubscribers {
		return false
	}
	*l = append(*l, *s)
	return true
}

func (l *subscribers) remove(id string) {
	*l = slices.DeleteFunc(*l, func(s Subscription) bool { return s.ID == id })
}

// leave ends the subscription, unless it is one that lasts longer.
func (l *subscribers) leave(s *Subscription) {
	*l = slices.DeleteFunc(*l, func(other Subscription) bool {
		return other.ID == s.ID && (s.Until.IsZero() || !other.Until.After(s.Until))
	})
}

// at drops those that have expired and returns the others, for the caller to
// keep.
func (l *subscribers) at(now time.Time) []Subscription {
	*l = slices.DeleteFunc(*l, func(s Subscription) bool { return !s.Until.After(now) })
	return slices.Clone(*l)
}

// has reports whether there is a subscriber of that ID.
func (l subscribers) has(id string, now time.Time) bool {
	return slices.ContainsFunc(l, func(s Subscription) bool { return s.ID == id && s.Until.After(now) })
}
