package handlers

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// PushMemo is the memo that names URLs which are pushed to for as long as the
// run lasts: a list of strings, or one. It goes along when a run continues as
// new.
const PushMemo = "runcast.push"

// keptPrefix begins the IDs of those URLs, and of no other subscriber.
const keptPrefix = "push-"

// MaxPushURLs bounds those of a run's memo.
const MaxPushURLs = 10

// Bounds of what a run spends on its subscribers.
const (
	// maxDeliveries bounds a run's deliveries but for the last ones, which only
	// those get who are there by then: they are in its history, about six
	// events for each push.
	maxDeliveries = 2000
	// maxRecipients bounds who is told, and those who are none any more but
	// for what is under way.
	maxRecipients = MaxPushURLs + 2*MaxSubscribers
	// maxFailures is how many in a row drop a subscriber who is only notified
	// or is transient. Others stay: theirs become dead letters.
	maxFailures = 3

	// notifyFor bounds a notification: while it is under way, nothing else
	// that the workflow wants is begun.
	notifyFor = time.Second
	// againAfter is when a notification that failed is tried again.
	againAfter = time.Second

	// pushFor bounds one attempt, what it asks of Redis included.
	pushFor = 20 * time.Second
	// buryFor bounds how long it is tried to write a dead letter.
	buryFor = time.Minute
	// finishWait is how long a run that has returned waits for what is under
	// way, which is older than what it has to say last.
	finishWait = 5 * time.Second
)

// effort is how much is done for one push.
type effort struct {
	attempts int
	// patience is how long a receiver may ask to be left alone.
	patience time.Duration
	// within bounds all of it.
	within time.Duration
}

var (
	// usual: a newer state waits meanwhile.
	usual = effort{attempts: 5, patience: time.Minute, within: 10 * time.Minute}
	// fleeting is for who has no use for an older state.
	fleeting = effort{attempts: 2, patience: 5 * time.Second, within: time.Minute}
	// final: the run stays open meanwhile.
	final = effort{attempts: 3, patience: 5 * time.Second, within: 45 * time.Second}
)

// deliveries tells the subscribers of a run, each for itself: one delivery at
// a time, always of the newest state, so that versions may be jumped over. It
// belongs to the run's workflow code, and makes no command while there is
// nobody.
type deliveries struct {
	h *Handlers
	// to are in the order in which they came.
	to    []*recipient
	spent int
	// closing says that the run has returned: only the last state is told.
	closing bool
}

// recipient is a subscriber, and what it knows.
type recipient struct {
	Subscription
	// kept says that it came with the memo, and stays.
	kept bool
	// sent is the newest version that was handed over; 0: none.
	sent int64
	// last says that it was told that no more comes before the end.
	last   bool
	failed int // in a row
	gone   bool
	// cancel ends what is under way; nil: nothing is.
	cancel workflow.CancelFunc
}

// watches reports whether an older state is of no use to the subscriber, and
// is not kept for it.
func (r *recipient) watches() bool { return r.Transient || !r.Push }

// keeps reports the opposite.
func (r *recipient) keeps() bool { return !r.watches() }

// keep has the URLs of the memo pushed to. One that cannot be read is none:
// the run goes on.
func (d *deliveries) keep(ctx workflow.Context) {
	p := workflow.GetInfo(ctx).Memo.GetFields()[PushMemo]
	if p == nil {
		return
	}
	dc := d.h.opt.DataConverter
	var urls []string
	if dc.FromPayload(p, &urls) != nil {
		var url string
		if err := dc.FromPayload(p, &url); err != nil {
			workflow.GetLogger(ctx).Warn("the memo "+PushMemo+" is no list of URLs; nothing is pushed", "error", err)
			return
		}
		urls = []string{url}
	}
	for i, url := range urls[:min(len(urls), MaxPushURLs)] {
		if url == "" || len(url) > maxURLBytes {
			continue
		}
		d.serve(ctx, &recipient{kept: true, Subscription: Subscription{ID: fmt.Sprint(keptPrefix, i+1), URL: url, Push: true}})
	}
}

// subscribed takes a subscriber, who is told the state as it is, or one that
// goes on. Who finds no place, or a run that has told as much as it may, is
// none.
func (d *deliveries) subscribed(ctx workflow.Context, s Subscription) {
	for _, r := range d.to {
		if r.kept || r.gone || r.ID != s.ID {
			continue
		}
		if r.URL != s.URL || r.Push != s.Push {
			r.sent, r.failed, r.last = 0, 0, r.last && d.exhausted()
		}
		r.Subscription = s
		return
	}
	if len(d.to) >= maxRecipients || d.exhausted() {
		d.h.subscribers.remove(s.ID)
		return
	}
	d.serve(ctx, &recipient{Subscription: s})
}

// exhausted reports whether the run has told as much as it may.
func (d *deliveries) exhausted() bool { return d.spent >= maxDeliveries }

// unsubscribed ends what is under way for a subscriber who is none any more.
func (d *deliveries) unsubscribed(id string) {
	for _, r := range d.to {
		if !r.kept && r.ID == id && r.cancel != nil {
			r.cancel()
		}
	}
}

// serve tells a subscriber of changes for as long as it is one.
func (d *deliveries) serve(ctx workflow.Context, r *recipient) {
	d.to = append(d.to, r)
	// A run that was canceled goes on telling what it does then.
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	workflow.Go(ctx, func(ctx workflow.Context) {
		defer cancel()
		for {
			err := workflow.Await(ctx, func() bool { return d.closing || !d.wanted(ctx, r) || d.due(r) })
			if err != nil || d.closing {
				return
			}
			if !d.wanted(ctx, r) {
				d.drop(r)
				return
			}
			d.deliver(ctx, r)
		}
	})
}

// wanted reports whether the subscriber is one still.
func (d *deliveries) wanted(ctx workflow.Context, r *recipient) bool {
	return !r.gone && (r.kept || d.h.subscribers.has(r.ID, workflow.Now(ctx)))
}

// due reports whether there is something to tell.
func (d *deliveries) due(r *recipient) bool {
	return r.sent < d.h.state.Version && !r.last
}

func (d *deliveries) drop(r *recipient) {
	r.gone = true
	if !r.kept {
		d.h.subscribers.remove(r.ID)
	}
	d.to = slices.DeleteFunc(d.to, func(other *recipient) bool { return other == r })
}

// deliver tells the state as it is, and returns when that is over.
func (d *deliveries) deliver(ctx workflow.Context, r *recipient) {
	ctx, r.cancel = workflow.WithCancel(ctx)
	defer func() { r.cancel(); r.cancel = nil }()
	d.spent++
	r.last = d.exhausted()
	in := Delivery{Subscription: r.Subscription, State: d.h.state, Last: r.last}
	r.sent = in.State.Version
	var err error
	switch {
	case !r.Push:
		err = notify(ctx, in)
	case r.Transient:
		err = push(ctx, in, fleeting)
	default:
		err = push(ctx, in, usual)
	}
	var refused *temporal.ApplicationError
	switch {
	case err == nil:
		r.failed = 0
	case ctx.Err() != nil:
		// The run has returned, and has something newer to say; or it was
		// unsubscribed, and is told anew should it have come again since.
		r.sent = 0
	case errors.As(err, &refused) && refused.Type() == Gone:
		r.gone = true
	case r.watches():
		r.failed++
		r.gone = r.failed >= maxFailures
		if !r.gone {
			r.sent, r.last = 0, false
			_ = workflow.Sleep(ctx, againAfter) // or until the run has returned
		}
	}
}

// finish tells everybody the last state. Who only watches is told within the
// task in which the run returns: a signal that comes meanwhile makes Temporal
// refuse the end, and finds the function as it was, as it would with nobody
// there. In a later task nobody would take it. The others are told once what is
// under way for them is over.
func (d *deliveries) finish(ctx workflow.Context) {
	d.closing = true
	d.stop((*recipient).watches)                                                 // what comes now is newer
	_ = workflow.Await(ctx, func() bool { return d.idle((*recipient).watches) }) // the context is not canceled
	told := d.h.state.Version
	d.tell(ctx, (*recipient).watches, notify)
	if !d.idle((*recipient).keeps) {
		ok, err := workflow.AwaitWithTimeout(ctx, finishWait, func() bool { return d.idle((*recipient).keeps) })
		if err != nil || !ok {
			d.stop((*recipient).keeps)
			_ = workflow.Await(ctx, func() bool { return d.idle((*recipient).keeps) })
		}
	}
	// What becomes of it is the activity's to count.
	d.tell(ctx, (*recipient).keeps, func(ctx workflow.Context, in Delivery) error { return push(ctx, in, final) })
	if d.h.state.Version > told { // what goes on in the background may change it
		d.tell(ctx, (*recipient).watches, notify)
	}
}

// stop ends what is under way for some.
func (d *deliveries) stop(whom func(*recipient) bool) {
	for _, r := range d.to {
		if r.cancel != nil && whom(r) {
			r.cancel()
		}
	}
}

// idle reports whether nothing is under way for some.
func (d *deliveries) idle(whom func(*recipient) bool) bool {
	return !slices.ContainsFunc(d.to, func(r *recipient) bool { return r.cancel != nil && whom(r) })
}

// tell tells some the state as it is, each once, and waits for it.
func (d *deliveries) tell(ctx workflow.Context, whom func(*recipient) bool, by func(workflow.Context, Delivery) error) {
	open := 0
	for _, r := range d.to {
		if !whom(r) || !d.wanted(ctx, r) {
			continue
		}
		open++
		in := Delivery{Subscription: r.Subscription, State: d.h.state}
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer func() { open-- }()
			_ = by(ctx, in)
		})
	}
	_ = workflow.Await(ctx, func() bool { return open == 0 })
}

// notify says once that there is something new, or to who is pushed to, what.
// Where the worker has no such activity the subscriber is none any more: nothing
// is in the history then, so nothing that is in it, such as a timer, may follow
// from the error. A worker that has the activity replays it otherwise.
func notify(ctx workflow.Context, in Delivery) error {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: notifyFor,
		RetryPolicy:            &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	err := workflow.ExecuteLocalActivity(ctx, NotifyActivity, in).Get(ctx, nil)
	if err == nil || ofActivity(err) {
		return err
	}
	workflow.GetLogger(ctx).Warn("a subscriber is not notified: register the activities of package delivery on this worker",
		"subscriber", in.Subscription.ID, "error", err)
	return temporal.NewApplicationError(err.Error(), Gone, err)
}

// ofActivity reports an error that a local activity has ended with, which its
// marker in the history says.
func ofActivity(err error) bool {
	var (
		failed   *temporal.ApplicationError
		late     *temporal.TimeoutError
		panicked *temporal.PanicError
	)
	return temporal.IsCanceledError(err) || errors.As(err, &failed) || errors.As(err, &late) || errors.As(err, &panicked)
}

// push sends the state. What cannot be sent is a dead letter when it returns,
// unless the subscription is transient.
func push(ctx workflow.Context, in Delivery, e effort) error {
	in.Attempts, in.PatienceMS = e.attempts, e.patience.Milliseconds()
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    pushFor,
		ScheduleToCloseTimeout: e.within,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second, MaximumAttempts: int32(e.attempts),
		},
	}), PushActivity, in).Get(ctx, nil)
	var refused *temporal.ApplicationError
	if err == nil || ctx.Err() != nil || in.Subscription.Transient ||
		errors.As(err, &refused) && (refused.Type() == Gone || refused.Type() == DeadLetter) {
		return err
	}
	// Its worker is gone, or Redis was away.
	in.Bury = "it is not known whether it was sent: " + reason(err)
	bury := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    pushFor,
		ScheduleToCloseTimeout: buryFor,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second},
	}), PushActivity, in).Get(ctx, nil)
	if !errors.As(bury, &refused) || refused.Type() != DeadLetter {
		workflow.GetLogger(ctx).Error("a push is lost: its dead letter could not be written",
			"subscriber", in.Subscription.ID, "version", in.State.Version, "error", bury)
	}
	return err
}

// reason returns the innermost of an activity's error, shortened.
func reason(err error) string {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	const most = 500
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
