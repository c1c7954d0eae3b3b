package strategy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"go.temporal.io/api/serviceerror"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/webhook"
)

// The defaults of [SubscribeOptions].
const (
	RenewEvery = 4 * time.Minute
	CheckEvery = 30 * time.Second
	FirstWait  = 3 * time.Second
)

// SubscribeOptions configures [NewSignal] and [NewPush]. The zero value of
// each field is its default.
type SubscribeOptions struct {
	CallOptions
	// RenewEvery is how often a subscription is renewed, which costs the run a
	// signal and a workflow task: four events of its history. It expires after
	// two and a half times as long, should its watcher die. Default, and at
	// most: [RenewEvery].
	RenewEvery time.Duration
	// CheckEvery is about how often Temporal, and the run, are asked how it is,
	// although nothing has come: a run that was terminated tells nobody, and
	// one whose messages are lost nobody either. Default: [CheckEvery].
	CheckEvery time.Duration
	// FirstWait is how long the first message may take, which comes right
	// after a subscription, and one that is missed. Default: [FirstWait].
	FirstWait time.Duration
	// Degraded is how it goes on where no message comes.
	Degraded AdaptiveOptions
}

// Subscribing has the run tell what has changed: by its own worker, which
// calls a URL of this process. A change costs Temporal one local activity and
// one query (signal), or one activity and no query (push), for each node that
// follows; a silence costs a query each time that it is checked. Where no
// message comes, or no more, it goes on as [AdaptivePolling] does, with a
// [Notice].
type Subscribing struct {
	calls    *calls
	receiver *Receiver
	push     bool
	renew    time.Duration
	check    time.Duration
	first    time.Duration
	degraded adapting
}

var _ Strategy = (*Subscribing)(nil)

// NewSignal returns the strategy signal: the run says that there is something
// new, and is queried for it.
func NewSignal(t Temporal, r *Receiver, o SubscribeOptions) *Subscribing {
	return newSubscribing(t, r, o, false)
}

// NewPush returns the strategy push: the run sends its states.
func NewPush(t Temporal, r *Receiver, o SubscribeOptions) *Subscribing {
	return newSubscribing(t, r, o, true)
}

func newSubscribing(t Temporal, r *Receiver, o SubscribeOptions, push bool) *Subscribing {
	o.RenewEvery = min(cmp.Or(max(o.RenewEvery, 0), RenewEvery), handlers.MaxSubscription*2/5)
	return &Subscribing{
		calls: newCalls(t, o.CallOptions), receiver: r, push: push,
		renew: o.RenewEvery, check: cmp.Or(max(o.CheckEvery, 0), CheckEvery), first: cmp.Or(max(o.FirstWait, 0), FirstWait),
		degraded: newAdapting(o.Degraded),
	}
}

// Watch implements [Strategy].
func (s *Subscribing) Watch(ctx context.Context, workflowID string, after progress.Position) iter.Seq2[progress.Event, error] {
	return watchEach(ctx, s.calls, workflowID, after, func(w *watch) {
		f := &subscribed{o: s, watch: w, box: s.receiver.open(), settle: settlePace}
		w.since = f.saidSince
		defer f.box.close()
		defer f.unsubscribe()
		f.follow()
	})
}

// subscribed is one sequence of [Subscribing].
type subscribed struct {
	*watch
	o   *Subscribing
	box *mailbox
	// to is the run that is subscribed to, empty: none. renewed is when, lasts
	// until when. before is the run that was subscribed to before that.
	to, before     string
	renewed, lasts time.Time
	// asked says that the workflow takes subscriptions.
	asked bool
	// again is until when a subscription that was refused is not tried.
	again time.Time
	// heard says that a message of this run has come, over that it sends no
	// more until it returns.
	heard, over bool
	// quiet is since when no message has come. silent says that it is time to
	// see whether one should have, lost that one should.
	quiet        time.Time
	silent, lost bool
	// ahead is a message of a run that was not known yet.
	ahead  *handlers.Post
	settle adapting
}

// follow looks at the workflow, which a run that ends, another run and a
// worker that is away need, and takes messages in between.
func (f *subscribed) follow() {
	for {
		if !f.checkRun() {
			return
		}
		switch {
		case !f.failing.IsZero() || f.returned():
			// A task that failed has not returned, such as one during which
			// something came for the run: should that stay open, or say more, it
			// is queried.
			f.silent = f.silent || f.returned() && (time.Since(f.quiet) >= f.o.check*4/5 || f.said() != nil)
			if !f.wait(f.settle.next(false)) {
				return
			}
		case f.outgrown() && (f.to != f.run.id || f.lost || time.Since(f.renewed) >= f.o.renew):
			if !f.outgrow() {
				return
			}
		case !f.subscribe():
			return
		case f.to != f.run.id:
			if !f.wait(time.Until(f.again)) {
				return
			}
		case !f.messages():
			return
		}
	}
}

// subscribedEvents bounds the history of a run that is subscribed to. Temporal
// ends a run at 51,200 events and lets it take 10,000 signals; each
// subscription, renewed or ended, is one signal and, where it has a task to
// itself, four events. The rest is the run's own.
// https://docs.temporal.io/workflow-execution/limits
const subscribedEvents = 20_000

func (f *subscribed) outgrown() bool { return f.run.events >= subscribedEvents }

// outgrow polls, which adds nothing to the history, until another run begins.
func (f *subscribed) outgrow() bool {
	n := &Notice{
		Kind: Degraded, Since: time.Now(), Reason: "adaptive polling until the next run, since the history of this one has become long",
		Cause: fmt.Errorf("it has %d events; have the workflow continue as new when handlers.ContinueAsNewAdvised says so", f.run.events),
	}
	f.unsubscribe()
	pace, of := f.o.degraded, f.run.id
	return f.pollInstead(&pace, n, func() bool { return f.run.id != of })
}

// returned says that the run's last state is known: all that is to come is how
// Temporal closes it.
func (f *subscribed) returned() bool { return f.last.Returned != "" && f.last.RunID == f.run.id }

// said returns a message of the run that was not taken and is newer than its
// last state; nil: there is none.
func (f *subscribed) said() *handlers.Post {
	post := f.box.peek()
	if post == nil || post.Data.RunID != f.last.RunID {
		return nil
	}
	if post.Data.Version <= f.last.Version && !post.Data.Time.After(f.last.Time) {
		return nil
	}
	return post
}

// saidSince is said for the end of the run.
func (f *subscribed) saidSince() (s *handlers.State, ok bool) {
	post := f.said()
	if post == nil {
		return nil, false
	}
	if f.o.push {
		s = &post.Data
	}
	return s, true
}

// checkRun looks at the workflow once. With push, and behind the run's return,
// it asks Temporal only, but after a silence.
func (f *subscribed) checkRun() bool {
	if (f.o.push || f.returned()) && !f.silent {
		open, more := f.glance()
		return open && more
	}
	before := f.last
	if _, more := f.look(); !more {
		return false
	}
	if !f.silent || !f.failing.IsZero() {
		return true // until a worker has answered, a describe says nothing
	}
	f.silent = false
	if f.run.id == f.to && f.last.RunID == before.RunID && f.last.Version > before.Version && !f.box.full() {
		// Nobody has told of it, unless that is under way: the run may have
		// dropped the subscription, so subscribe anew and wait as at first.
		f.heard, f.lost = false, true
	}
	return true
}

// subscribe subscribes to the run, or renews. It returns false when the
// sequence has ended; whether it is subscribed then, f.to says.
func (f *subscribed) subscribe() bool {
	if f.to == f.run.id && time.Since(f.renewed) < f.o.renew && !f.lost || time.Now().Before(f.again) || f.outgrown() {
		return true
	}
	if more := f.ask(); !more || !f.asked {
		return more
	}
	sub := f.subscription(f.o.renew * 5 / 2)
	err := f.calls.signal(f.ctx, f.id, f.run.id, handlers.Subscribe, sub)
	var gone *serviceerror.NotFound
	switch {
	case errors.As(err, &gone):
		// It has just ended; looking at it again tells how.
		f.to, f.again = "", time.Now().Add(f.settle.next(false))
		return true
	case err != nil:
		more := f.troubled(&f.refused, err)
		f.again = time.Now().Add(f.refused.backoff)
		return more
	}
	if !f.ended(&f.refused, "the workflow takes subscriptions again") {
		return false
	}
	if f.to != f.run.id {
		f.heard, f.over, f.settle, f.quiet = false, false, settlePace, time.Now()
		f.before = f.to
	}
	f.to, f.renewed, f.lasts, f.lost = f.run.id, time.Now(), sub.Until, false
	return true
}

// ask asks once whether the workflow takes subscriptions. It goes before the
// first of them: a signal that nobody takes stays in the history, and who gave
// such a run the handlers later would have it do, in a replay, what it has not
// done.
func (f *subscribed) ask() (more bool) {
	if f.asked {
		return true
	}
	takes, err := f.calls.takesSignal(f.ctx, f.id, &f.run, handlers.Subscribe)
	var unknown *serviceerror.QueryFailed
	switch {
	case errors.As(err, &unknown):
		// An SDK that does not tell.
	case errors.Is(err, errNoAnswer) && !f.o.push:
		// The look before was answered: the worker has just gone. The next
		// look tells when one is back; push has none that could.
		f.again = time.Now().Add(f.settle.next(false))
		return f.trouble(err)
	case err != nil:
		more := f.troubled(&f.refused, err)
		f.again = time.Now().Add(f.refused.backoff)
		return more
	case !takes:
		return f.fail(noHandler(f.run.workflowType, "signal", handlers.Subscribe))
	}
	f.asked = true
	return true
}

func (f *subscribed) subscription(lasts time.Duration) handlers.Subscription {
	return handlers.Subscription{ID: f.box.id, URL: f.o.receiver.url, Push: f.o.push, Transient: true, Until: time.Now().Add(lasts)}
}

// unsubscribe ends the subscription. It is made although the context has
// ended, within a bound; what is left of it expires.
func (f *subscribed) unsubscribe() {
	if f.to == "" || !f.run.open() {
		return
	}
	_ = f.calls.signal(context.WithoutCancel(f.ctx), f.id, f.to, handlers.Unsubscribe, handlers.Subscription{ID: f.box.id, Until: f.lasts})
	f.to = ""
}

// messages takes messages until the workflow has to be looked at again, or the
// subscription renewed.
func (f *subscribed) messages() bool {
	until := time.Now().Add(f.next())
	if !f.heard {
		until = f.renewed.Add(f.o.first)
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for {
		select {
		case <-f.ctx.Done():
			return f.fail(f.ctx.Err())
		case <-timer.C:
			if !f.heard {
				return f.degrade("no message comes from the run", fmt.Errorf("workers must reach %s, which RUNCAST_CALLBACK_URL names, and be allowed to by RUNCAST_PUSH_ALLOW; and a run takes no more than %d subscribers", webhook.Redacted(f.o.receiver.url), handlers.MaxSubscribers))
			}
			f.silent = time.Since(f.quiet) >= f.o.check*4/5 // else it is time to renew
			return true
		case <-f.box.wake:
		}
		post := f.box.take()
		if post == nil {
			continue
		}
		if post.Data.RunID != f.to {
			if post != f.ahead && post.Data.RunID != f.before {
				// Of the run that this one continues as, or that a reset has
				// made of it, which the look finds.
				f.ahead = post
				f.box.putBack(post)
				return true
			}
			continue
		}
		more, look := f.message(post)
		switch {
		case !more:
			return false
		case look:
			return true
		case f.over:
			return f.degrade("the run has sent as many messages as it may, and will only tell its end", nil)
		}
		timer.Reset(f.next())
	}
}

// next is how long until the next check, or the next try to renew.
func (f *subscribed) next() time.Duration {
	renew := f.renewed.Add(f.o.renew)
	if f.again.After(renew) {
		renew = f.again
	}
	return min(jittered(f.o.check), time.Until(renew))
}

// message takes a message. look says that the workflow has to be looked at.
func (f *subscribed) message(post *handlers.Post) (more, look bool) {
	f.heard, f.over, f.quiet, f.lost = true, post.Last, time.Now(), false
	s := post.Data
	if !f.o.push {
		switch {
		case s.Returned != "" && f.last.RunID == s.RunID && f.last.Version+1 == s.Version && f.last.Returned == "":
			// That it returns is all that is new. A query would have a worker
			// read the whole history of a run that has closed. Behind a return
			// that was undone, there is no telling what is new.
			last := f.last
			last.Version, last.Time, last.Returned = s.Version, s.Time, s.Returned
			_, more = f.state(last)
			return more, true
		case s.Returned != "":
			return true, true // with the state, which the look reads
		}
		if f.last.RunID == s.RunID && f.last.Version >= s.Version {
			return f.recovered(), false
		}
		var err error
		if s, err = f.calls.query(f.ctx, f.id, &f.run); err != nil {
			return f.trouble(err) && f.wait(0), true
		}
	}
	if f.last.RunID == s.RunID && f.last.Version > s.Version {
		return true, false // it was overtaken
	}
	_, more = f.state(s)
	return more, s.Returned != ""
}

// degrade polls until a message comes, or another run begins.
func (f *subscribed) degrade(why string, cause error) bool {
	// First of all: is it the worker that is away?
	if _, more := f.look(); !more {
		return false
	}
	if f.run.id != f.to {
		return true // it has continued as new before it took the subscription
	}
	if !f.failing.IsZero() || f.last.Returned != "" {
		return true // it is; or there is no more to come
	}
	of, pace := f.run.id, f.o.degraded
	n := &Notice{Kind: Degraded, Since: f.quiet, Reason: "adaptive polling: " + why, Cause: cause}
	more := true
	done := func() bool {
		more = f.subscribe()
		return !more || f.box.full() || f.run.id != of || f.last.Returned != ""
	}
	if !f.pollInstead(&pace, n, done) || !more {
		return false
	}
	if !f.box.full() || f.told || f.refused.told {
		return true // it is another run's, or not all is well
	}
	return f.live("messages come again")
}

// servedWithin is how long a run may wait for a worker until it is said to be
// away: longer than the run waits for the worker that it had.
const servedWithin = 6 * time.Second

// glance asks Temporal, and no worker, how the workflow is. open is false once
// its end was yielded, and more when the sequence has ended.
func (w *watch) glance() (open, more bool) {
	r, err := w.calls.describe(w.ctx, w.id, "")
	switch {
	case errors.Is(err, progress.ErrNotFound) && w.run.id == "":
		return false, w.fail(err)
	case errors.Is(err, progress.ErrNotFound):
		return false, w.forgotten()
	case err != nil:
		return true, w.trouble(err)
	case w.run.id != "" && r.chain != w.run.chain:
		// Another chain has begun: the one that is followed has ended.
		return false, w.endOf(w.run)
	case !r.open():
		return false, w.close(r)
	}
	w.run = r
	switch {
	case r.taken:
		return true, true // whether the worker is there, its answer will say
	case r.unserved.IsZero():
		return true, w.recovered()
	case time.Since(r.unserved) > servedWithin:
		return true, w.trouble(w.calls.noAnswer(context.DeadlineExceeded))
	}
	return true, true
}
