package strategy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// RedisCheckEvery is how often [Pipeline] compares what it has with Redis,
// since a last message that was lost shows no hole.
const RedisCheckEvery = 10 * time.Second

// Store is what the strategy redis reads; a [redisstore.Store] has it.
type Store interface {
	Subscribe(redisstore.Sink) *redisstore.Subscription
	Read(ctx context.Context, id string, from int64, limit int) (progress.View, error)
	Heads(ctx context.Context, ids []string) ([]progress.Position, error)
}

// RedisOptions configures [NewRedis]. The zero value of each field is its
// default.
type RedisOptions struct {
	CallOptions
	// Temporal is asked once about a workflow that Redis does not know, so
	// that who comes before its first event may wait for it. Default: nobody
	// is asked, and the workflow is not found.
	Temporal Temporal
	// CheckEvery is how often the newest position is compared; default:
	// [RedisCheckEvery].
	CheckEvery time.Duration
}

// Pipeline follows what workers write to Redis, event by event. It makes no
// call to Temporal for a workflow that Redis knows. All its sequences share
// one subscription.
type Pipeline struct {
	store Store
	calls *calls // nil: nobody is asked
	every time.Duration
	topics
}

var _ Strategy = (*Pipeline)(nil)

// NewRedis returns the strategy redis. Close it before the store.
func NewRedis(s Store, o RedisOptions) *Pipeline {
	if o.CheckEvery <= 0 {
		o.CheckEvery = RedisCheckEvery
	}
	p := &Pipeline{store: s, every: o.CheckEvery}
	if o.Temporal != nil {
		p.calls = newCalls(o.Temporal, o.CallOptions)
	}
	p.topics.init(s)
	return p
}

// Watch implements [Strategy]. Its positions are those of the stream in Redis.
// The zero position begins with the oldest event of the newest chain that is
// held. Where events were lost, or the position is not one of the stream, it
// yields a [Notice] of the kind [Gap] and begins like that again.
func (p *Pipeline) Watch(ctx context.Context, workflowID string, after progress.Position) iter.Seq2[progress.Event, error] {
	return func(yield func(progress.Event, error) bool) {
		if err := progress.CheckWorkflowID(workflowID); err != nil {
			yield(progress.Event{}, err)
			return
		}
		f := &follow{ctx: ctx, p: p, id: workflowID, yield: yield, at: after, good: time.Now()}
		f.run()
	}
}

// follow is one sequence of [Pipeline]. Methods that yield return false when
// the sequence has ended.
type follow struct {
	ctx   context.Context
	p     *Pipeline
	id    string
	yield func(progress.Event, error) bool
	inbox *inbox

	// at is the position of the newest event that was yielded, or that the
	// caller has.
	at progress.Position
	// known says that the workflow is there.
	known         bool
	good, failing time.Time
	told          bool
	backoff       time.Duration
}

func (f *follow) fail(err error) bool {
	if f.ctx.Err() != nil {
		err = f.ctx.Err()
	}
	f.yield(progress.Event{}, err)
	return false
}

// run subscribes first, then reads, then takes what is published.
func (f *follow) run() {
	for f.inbox == nil {
		in, err := f.p.join(f.ctx, f.id)
		if err != nil {
			if !f.trouble(err) || !f.pause() {
				return
			}
			continue
		}
		f.inbox = in
	}
	defer f.p.leave(f.id, f.inbox)
	tick := time.NewTicker(f.p.every)
	defer tick.Stop()
	if !f.readOn() {
		return
	}
	for {
		select {
		case <-f.ctx.Done():
			f.fail(f.ctx.Err())
			return
		case <-f.inbox.wake:
			if !f.take() {
				return
			}
		case <-tick.C:
			if !f.compare() {
				return
			}
		}
	}
}

// take goes on with what was published. What does not follow is read.
func (f *follow) take() bool {
	messages, missed := f.inbox.take()
	for _, data := range messages {
		e, err := progress.DecodeEvent(data)
		switch {
		case err != nil || e.Epoch != f.at.Epoch || e.Seq > f.at.Seq+1:
			missed = true
		case e.Seq <= f.at.Seq:
			missed = missed || e.Seq == f.at.Seq && e.Check != f.at.Check
		default:
			if !f.event(e) {
				return false
			}
		}
	}
	return !missed || f.readOn()
}

// event yields the next event; a closed one is the last.
func (f *follow) event(e progress.Event) bool {
	f.at = e.Position()
	return f.yield(e, nil) && e.Type != progress.TypeClosed
}

// compare reads if Redis has something else than what was yielded.
func (f *follow) compare() bool {
	heads, err := f.p.store.Heads(f.ctx, []string{f.id})
	switch {
	case err != nil:
		return f.trouble(err)
	case heads[0] != progress.UnknownPosition && heads[0] != f.at:
		return f.readOn()
	}
	return f.recovered()
}

// readOn reads until it could.
func (f *follow) readOn() bool {
	for {
		again, more := f.read()
		if !more || !again {
			return more
		}
		if !f.pause() {
			return false
		}
	}
}

// pageSize is how many events are read at a time.
const pageSize = 1000

// read yields what the stream has behind the position. again says that it has
// more, or could not be read.
func (f *follow) read() (again, more bool) {
	from := max(f.at.Seq, 1)
	v, err := f.p.store.Read(f.ctx, f.id, from, pageSize)
	if err != nil {
		return true, f.trouble(err)
	}
	if v.Snapshot.Seq == 0 {
		if !f.recovered() {
			return false, false
		}
		return false, f.nothing()
	}
	f.known = true
	head := v.Snapshot.Position()
	events, err := decoded(v.Events)
	if err != nil {
		return false, f.fail(err)
	}
	switch {
	case f.at.IsZero():
		if events, err = f.newest(v.Snapshot, events); err == nil && len(events) == 0 {
			err = errNoStream
		}
	case len(events) > 0 && events[0].Position() == f.at:
		events = events[1:]
		switch {
		case len(events) == 0 && f.at.Seq < head.Seq:
			err = errNoStream
		case len(events) == 0 && v.Snapshot.Closed():
			return false, false // the caller has the end
		}
	default:
		// What the caller has is not in the stream any more.
		why := fmt.Sprintf("the events behind %v are not held any more, or are others", f.at)
		if !f.yield(progress.Event{}, &Notice{Kind: Gap, Since: f.good, Reason: why}) {
			return false, false
		}
		f.at = progress.Position{}
		return true, true
	}
	if err != nil {
		return true, f.trouble(err)
	}
	if !f.recovered() {
		return false, false
	}
	for _, e := range events {
		if !f.event(e) {
			return false, false
		}
	}
	return f.at.Seq < head.Seq, true
}

// errNoStream says that the hash is there, and the stream that it tells of is
// not, or its end is not: one of them was evicted, or is on its way elsewhere.
var errNoStream = fmt.Errorf("%w: the stream is not there, though its hash is", progress.ErrUnavailable)

func decoded(raw []progress.RawEvent) ([]progress.Event, error) {
	events := make([]progress.Event, len(raw))
	var err error
	for i, r := range raw {
		if events[i], err = progress.DecodeEvent(r.Data); err != nil {
			return nil, err
		}
	}
	return events, nil
}

// newest returns the events of the newest chain that are held.
func (f *follow) newest(s progress.Snapshot, events []progress.Event) ([]progress.Event, error) {
	for len(events) > 0 && events[len(events)-1].Seq < s.Seq {
		v, err := f.p.store.Read(f.ctx, f.id, events[len(events)-1].Seq+1, pageSize)
		if err != nil {
			return nil, err
		}
		next, err := decoded(v.Events)
		if err != nil || len(next) == 0 || v.Snapshot.Epoch != s.Epoch {
			return nil, errors.Join(err, fmt.Errorf("the stream has changed while it was read: %w", progress.ErrUnavailable))
		}
		events, s = append(events, next...), v.Snapshot
	}
	return slices.DeleteFunc(events, func(e progress.Event) bool { return e.Chain != s.Chain }), nil
}

// nothing is for a workflow that is not in Redis.
func (f *follow) nothing() bool {
	if f.known {
		return true // lost with its server; a new stream will be a gap
	}
	if f.p.calls == nil {
		return f.fail(fmt.Errorf("workflow %q: %w", f.id, progress.ErrNotFound))
	}
	_, err := f.p.calls.describe(f.ctx, f.id, "")
	switch {
	case errors.Is(err, progress.ErrNotFound), err != nil && (f.ctx.Err() != nil || isFinal(err)):
		return f.fail(err)
	}
	f.known = true // or it is not known that it is not
	return true
}

// pause waits before what failed is tried again.
func (f *follow) pause() bool {
	if !sleep(f.ctx, f.backoff) {
		return f.fail(f.ctx.Err())
	}
	return true
}

// redisPatience is for how long Redis may be away before the caller is told.
const redisPatience = 3 * time.Second

// trouble takes an error of the store: it ends the sequence unless it may
// pass.
func (f *follow) trouble(err error) bool {
	if f.ctx.Err() != nil || !errors.Is(err, progress.ErrUnavailable) {
		return f.fail(err)
	}
	f.backoff = jittered(min(max(2*f.backoff, minBackoff), maxBackoff))
	if f.failing.IsZero() {
		f.failing = time.Now()
	}
	if f.told || time.Since(f.failing) < redisPatience {
		return true
	}
	f.told = true
	return f.yield(progress.Event{}, &Notice{Kind: Stale, Since: f.good, Reason: "Redis does not answer", Cause: err})
}

// recovered notes that Redis has answered.
func (f *follow) recovered() bool {
	f.good, f.failing, f.backoff = time.Now(), time.Time{}, 0
	if !f.told {
		return true
	}
	f.told = false
	return f.yield(progress.Event{}, &Notice{Kind: Live, Since: f.good, Reason: "Redis answers again"})
}
