package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/webhook"
)

// Options of a [Deliverer].
type Options struct {
	// Sender sends; nil: there is no secret to sign with, so every push
	// becomes a dead letter that says so.
	Sender *webhook.Sender
	// Letters keeps what cannot be delivered; nil: it is dropped, and counted.
	Letters *Letters
	// Logger takes trouble with Redis; nil discards it.
	Logger *slog.Logger
}

// Deliverer has the activities by which runs tell their subscribers.
type Deliverer struct {
	o Options
	// count has all strategies from the beginning, and is not written to.
	count map[string]*counters
}

// New returns one.
func New(o Options) *Deliverer {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Deliverer{o: o, count: make(map[string]*counters)}
	for _, strategy := range handlers.Strategies() {
		d.count[strategy] = new(counters)
	}
	return d
}

// Register registers the activities on a worker, under the names that workflow
// code knows.
func (d *Deliverer) Register(r worker.ActivityRegistry) {
	r.RegisterActivityWithOptions(d.Notify, activity.RegisterOptions{Name: handlers.NotifyActivity})
	r.RegisterActivityWithOptions(d.Push, activity.RegisterOptions{Name: handlers.PushActivity})
}

// Stats counts what became of deliveries since the deliverer was made.
type Stats struct {
	// Notified and Pushed were taken by their receivers.
	Notified, Pushed int64
	// FailedAttempts counts attempts, retries among them, but for those that
	// the end of their worker broke off.
	FailedAttempts int64
	// Paused were not sent, because their endpoint is paused.
	Paused int64
	// DeadLetters were written.
	DeadLetters int64
	// Dropped failed for good and were of no use to anybody later.
	Dropped int64
	// Unwritten counts times that a dead letter could not be written; it is
	// tried again, within a bound.
	Unwritten int64
	// Evicted are dead letters that made room for newer ones.
	Evicted int64
}

type counters struct {
	notified, pushed, failed, paused, letters, dropped, unwritten atomic.Int64
}

// Stats returns the counts so far, by what [handlers.Subscription.Strategy]
// says of their subscribers.
func (d *Deliverer) Stats() map[string]Stats {
	all := make(map[string]Stats)
	for strategy, c := range d.count {
		all[strategy] = Stats{
			Notified: c.notified.Load(), Pushed: c.pushed.Load(), FailedAttempts: c.failed.Load(),
			Paused: c.paused.Load(), DeadLetters: c.letters.Load(), Dropped: c.dropped.Load(), Unwritten: c.unwritten.Load(),
		}
	}
	if d.o.Letters != nil {
		// No strategy has dead letters.
		s := all[handlers.NoStrategy]
		s.Evicted = d.o.Letters.evicted.Load()
		all[handlers.NoStrategy] = s
	}
	return all
}

// errNoSecret is why nothing can be sent.
var errNoSecret = &webhook.Error{Reason: "the worker has no secret to sign webhooks with; set RUNCAST_PUSH_SECRETS on workers and API", Final: true}

// Notify says that there is a newer version, or to who is pushed to, what is
// the last. It is a local activity: it asks nothing of Redis, and is over soon.
func (d *Deliverer) Notify(ctx context.Context, in handlers.Delivery) error {
	count := d.count[in.Subscription.Strategy()]
	kind, taken := handlers.ProgressPost, &count.pushed
	if !in.Subscription.Push {
		kind, taken = handlers.ChangedPost, &count.notified
		s := &in.State
		in.State = handlers.State{
			Started: s.Started, Version: s.Version, Time: s.Time, RunID: s.RunID, Chain: s.Chain, Type: s.Type, Returned: s.Returned,
		}
	}
	body, err := post(ctx, kind, &in)
	if err != nil {
		return err
	}
	refused := d.send(ctx, count, webhook.Message{ID: in.MessageID(), URL: in.Subscription.URL, Body: body})
	if refused == nil {
		taken.Add(1)
		return nil
	}
	count.dropped.Add(1)
	return temporal.NewNonRetryableApplicationError(refused.Reason, undelivered(refused), nil)
}

func undelivered(refused *webhook.Error) string {
	if refused.Gone() {
		return handlers.Gone
	}
	return handlers.Undelivered
}

// Push sends a state. An error that is not to be retried says what became of
// it by its type.
func (d *Deliverer) Push(ctx context.Context, in handlers.Delivery) error {
	body, err := post(ctx, handlers.ProgressPost, &in)
	if err != nil {
		return err
	}
	info := activity.GetInfo(ctx)
	letter := webhook.Letter{
		ID: in.MessageID(), URL: in.Subscription.URL, Body: body, WorkflowID: info.WorkflowExecution.ID, RunID: in.State.RunID,
		Subscriber: in.Subscription.ID, Attempts: int(info.Attempt),
	}
	count := d.count[in.Subscription.Strategy()]
	switch {
	case in.Bury != "":
		letter.Reason, letter.Attempts = in.Bury, in.Attempts
		return d.bury(ctx, in, letter, handlers.Undelivered)
	case d.o.Sender == nil:
		letter.Reason, letter.Attempts = errNoSecret.Reason, 0
		return d.bury(ctx, in, letter, handlers.Undelivered)
	}
	failures, until := d.enter(ctx, letter.URL)
	if !until.IsZero() {
		count.paused.Add(1)
		letter.Reason = "the endpoint has failed too often, or asks for it, and is paused until " + until.UTC().Format(time.RFC3339)
		letter.Attempts--
		return d.bury(ctx, in, letter, handlers.Undelivered)
	}
	letter.Last = time.Now()
	refused := d.send(ctx, count, webhook.Message{ID: letter.ID, URL: letter.URL, Body: body})
	switch {
	case refused == nil:
		count.pushed.Add(1)
		if failures > 0 {
			d.note(ctx, func(ctx context.Context) error { return d.o.Letters.succeeded(ctx, letter.URL) })
		}
		return nil
	case errors.Is(refused, context.Canceled):
		// The worker stops: the attempt is another one's, and says nothing
		// of the endpoint.
		return temporal.NewApplicationError(refused.Reason, handlers.Undelivered)
	}
	return d.refused(ctx, in, letter, failures, refused)
}

// refused ends an attempt that was in vain. failures is what enter returned.
func (d *Deliverer) refused(ctx context.Context, in handlers.Delivery, letter webhook.Letter, failures int64, refused *webhook.Error) error {
	patience := time.Duration(in.PatienceMS) * time.Millisecond
	asked := refused.RetryAfter
	if asked <= patience || refused.Final {
		asked = 0 // the activity's own retry waits for it, or nobody does
	}
	if d.o.Letters != nil {
		d.note(ctx, func(ctx context.Context) error { return d.o.Letters.refused(ctx, letter.URL, failures, asked, refused) })
	}
	if !refused.Final && letter.Attempts < in.Attempts && asked == 0 {
		return temporal.NewApplicationErrorWithOptions(refused.Reason, handlers.Undelivered, temporal.ApplicationErrorOptions{NextRetryDelay: refused.RetryAfter})
	}
	letter.Reason = refused.Reason
	return d.bury(ctx, in, letter, undelivered(refused))
}

// post returns the body of what a subscriber is sent.
func post(ctx context.Context, kind string, in *handlers.Delivery) ([]byte, error) {
	body, err := json.Marshal(handlers.Post{
		Type: kind, Timestamp: in.State.Time, Subscriber: in.Subscription.ID,
		WorkflowID: activity.GetInfo(ctx).WorkflowExecution.ID, Last: in.Last, Data: in.State,
	})
	if err != nil {
		return nil, temporal.NewNonRetryableApplicationError("encode what is sent", handlers.Undelivered, err)
	}
	return body, nil
}

// send sends once; nil: the message was taken.
func (d *Deliverer) send(ctx context.Context, count *counters, m webhook.Message) *webhook.Error {
	if d.o.Sender == nil {
		return errNoSecret
	}
	err := d.o.Sender.Send(ctx, m)
	if err == nil {
		return nil
	}
	var refused *webhook.Error
	if !errors.As(err, &refused) {
		refused = &webhook.Error{Reason: err.Error()}
	}
	if !errors.Is(err, context.Canceled) {
		count.failed.Add(1)
	}
	return refused
}

// enter asks whether the URL is paused. Without Redis none is.
func (d *Deliverer) enter(ctx context.Context, url string) (failures int64, until time.Time) {
	if d.o.Letters == nil {
		return 0, time.Time{}
	}
	d.note(ctx, func(ctx context.Context) (err error) {
		failures, until, err = d.o.Letters.enter(ctx, url)
		return err
	})
	return failures, until
}

// note asks or tells Redis something that a push can do without.
func (d *Deliverer) note(ctx context.Context, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisFor)
	defer cancel()
	if err := f(ctx); err != nil {
		d.o.Logger.Warn("the state of a webhook's endpoint is not known", "error", err)
	}
}

// bury ends a push that failed for good. How it is told is only of interest
// where nothing is kept of it: a letter that was to be kept and is not must
// be written by another attempt.
func (d *Deliverer) bury(ctx context.Context, in handlers.Delivery, letter webhook.Letter, how string) error {
	count := d.count[in.Subscription.Strategy()]
	if in.Subscription.Transient || d.o.Letters == nil {
		count.dropped.Add(1)
		return temporal.NewNonRetryableApplicationError(letter.Reason, how, nil)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisFor)
	defer cancel()
	if err := d.o.Letters.Bury(ctx, letter); err != nil {
		count.unwritten.Add(1)
		return fmt.Errorf("%s; and its dead letter could not be written: %w", letter.Reason, err)
	}
	count.letters.Add(1)
	if how == handlers.Gone {
		return temporal.NewNonRetryableApplicationError(letter.Reason, handlers.Gone, nil)
	}
	return temporal.NewNonRetryableApplicationError(letter.Reason, handlers.DeadLetter, nil)
}
