package strategy

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"time"

	"github.com/runcast/runcast/internal/closeevent"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// watch is one sequence of a strategy that asks Temporal. All its calls are
// made by the goroutine that takes the sequence, so none outlives it. Methods
// that yield return false when the sequence has ended.
type watch struct {
	ctx   context.Context
	calls *calls
	id    string
	yield func(progress.Event, error) bool

	// at is the position of the newest state that was yielded, or that the
	// caller has; shown says that one was yielded.
	at    progress.Position
	shown bool
	// last is the newest state that was read, zero before the first.
	last handlers.State
	// run is what Temporal said last of the workflow, zero before the first.
	run run

	// good is when a worker answered last.
	good time.Time
	outage
	// lesser is the notice that another strategy goes on, while it does for
	// this run.
	lesser *Notice
	// since is what saidSince returns; nil: nobody says anything.
	since func() (s *handlers.State, ok bool)
	// refused is the outage of the one call by which changes come: it may be
	// refused while the others are answered.
	refused outage
}

// outage is a time in which calls fail. The zero value: they do not.
type outage struct {
	// failing is since when.
	failing time.Time
	// told says that the caller knows of it.
	told bool
	// backoff is how long to wait at least before the next call.
	backoff time.Duration
}

// watchEach returns a sequence that follow yields.
func watchEach(ctx context.Context, c *calls, id string, after progress.Position, follow func(*watch)) iter.Seq2[progress.Event, error] {
	return func(yield func(progress.Event, error) bool) {
		w := &watch{ctx: ctx, calls: c, id: id, yield: yield, at: after, good: time.Now()}
		if err := progress.CheckWorkflowID(id); err != nil {
			w.fail(err)
			return
		}
		follow(w)
	}
}

// fail ends the sequence with an error; with the context's where that is why.
func (w *watch) fail(err error) bool {
	if w.ctx.Err() != nil {
		err = w.ctx.Err()
	}
	w.yield(progress.Event{}, err)
	return false
}

// poll looks at a pace until done says so, which may be nil, or the sequence
// has ended.
func (w *watch) poll(p pace, done func() bool) bool {
	for {
		changed, more := w.look()
		switch {
		case !more:
			return false
		case done != nil && done():
			return true
		case !w.wait(p.next(changed)):
			return false
		}
	}
}

// wait waits for d, or longer where calls fail.
func (w *watch) wait(d time.Duration) bool {
	if !sleep(w.ctx, max(d, w.backoff)) {
		return w.fail(w.ctx.Err())
	}
	return true
}

// look describes the workflow, and reads its state while it runs. changed
// says that the state is newer, or Temporal's own view is.
func (w *watch) look() (changed, more bool) {
	r, err := w.calls.describe(w.ctx, w.id, "")
	switch {
	case errors.Is(err, progress.ErrNotFound) && w.run.id == "":
		return false, w.fail(err)
	case errors.Is(err, progress.ErrNotFound):
		return true, w.forgotten()
	case err != nil:
		return false, w.trouble(err)
	case w.run.id != "" && r.chain != w.run.chain:
		// Another chain has begun: the one that is followed has ended.
		return true, w.endOf(w.run)
	case !r.open():
		return true, w.close(r)
	}
	before := w.run.id
	w.run = r
	if before != r.id {
		w.lesser = nil // that was the run before
	}
	s, err := w.calls.query(w.ctx, w.id, &r)
	if err != nil {
		return before != r.id, w.trouble(err)
	}
	changed, more = w.state(s)
	return changed || before != r.id, more
}

// state takes a state that a worker has answered, and yields it if it is
// newer.
func (w *watch) state(s handlers.State) (newer, more bool) {
	if !w.recovered() {
		return false, false
	}
	at := w.place(&s)
	known := at.Epoch == w.at.Epoch && s.Version <= w.at.Seq
	if w.last.Version == 0 && s.Version < w.at.Seq {
		known = false // the caller's position is of no state that there was
	}
	w.last = s
	if known {
		return false, true
	}
	w.at, w.shown = at, true
	return true, w.yield(stateEvent(w.id, at, &s), nil)
}

// place returns the position of a state of the run. A run that a reset made
// repeats the time of the first task of another one, and may so say that it
// began before the runs that it has taken the place of. Temporal knows better:
// there it began when it was made. All other runs begin before their first task.
func (w *watch) place(s *handlers.State) progress.Position {
	at := s.Position()
	if w.run.id == s.RunID {
		at.Epoch = max(at.Epoch, w.run.started.UnixMilli())
	}
	return at
}

// close yields the end of the chain whose last run is r, and before it the
// last state, where a worker answers.
func (w *watch) close(r run) bool {
	w.run = r
	// Who comes behind the end gets the last state and the end at once, and not
	// a state for a while that looks as if the run went on.
	text, late := "", w.at == progress.Position{}
	if late {
		text = w.reason(&r)
	}
	// What was said of a return that a failed task has undone is not the last.
	said, later := w.saidSince()
	switch {
	case later && said != nil && said.Returned != "":
		if !w.lastState(*said) {
			return false
		}
	case later || w.last.RunID != r.id || w.last.Returned == "":
		var s handlers.State
		err := w.lastly(func() (err error) { s, err = w.calls.query(w.ctx, w.id, &r); return err })
		switch {
		case w.ctx.Err() != nil:
			return w.fail(w.ctx.Err())
		case err == nil:
			if !w.lastState(s) {
				return false
			}
		}
		// Without a worker, or without handlers, the status alone is known.
	}
	at := progress.Position{Epoch: w.at.Epoch, Seq: w.at.Seq + 1}
	switch {
	case w.last.RunID == r.id:
		at = w.place(&w.last)
		at.Seq++
	case w.at.Epoch == 0 || w.last.Version > 0:
		// Nothing of this run is known.
		at = progress.Position{Epoch: max(r.started.UnixMilli(), 1), Seq: 1}
	}
	if w.at == at && !w.shown {
		return false // the caller has the end
	}
	if w.shown && w.at.Epoch == at.Epoch && w.at.Seq >= at.Seq {
		at.Seq = w.at.Seq + 1 // a task that failed had counted further
	}
	if !late {
		text = w.reason(&r)
	}
	w.yield(closedEvent(w.id, &r, at, text), nil)
	return false
}

// reason returns why a run has closed, where its status does not say it; ""
// where nobody can tell within the time that the end may take.
func (w *watch) reason(r *run) string {
	if r.status == progress.StatusCompleted || r.status == progress.StatusCanceled || r.status == progress.StatusUnknown {
		return ""
	}
	var end closeevent.End
	if w.lastly(func() (err error) { end, err = w.calls.end(w.ctx, w.id, r.id); return err }) != nil {
		return ""
	}
	return end.Message
}

// saidSince returns what was said of the run behind its last state and not
// taken, where anybody says anything; nil: only that there is something.
func (w *watch) saidSince() (s *handlers.State, ok bool) {
	if w.since == nil {
		return nil, false
	}
	return w.since()
}

// lastTries is how often a call is made without which the end lacks something:
// within three seconds or so.
const lastTries = 5

// lastly makes a call for the end of a run. What the server has no room for is
// tried again, a few times: nobody asks later.
func (w *watch) lastly(call func() error) error {
	for n := 0; ; n++ {
		err := call()
		if err == nil || !isLimited(err) || n+1 == lastTries || !sleep(w.ctx, jittered(minBackoff<<n)) {
			return err
		}
	}
}

// lastState takes the state of a run that has closed.
func (w *watch) lastState(s handlers.State) bool {
	at := w.place(&s)
	switch {
	case !w.shown && at.Epoch == w.at.Epoch && at.Seq+1 == w.at.Seq:
		w.last = s // the caller has the end
		return true
	case w.shown && at.Epoch == w.at.Epoch && at.Seq <= w.at.Seq && s.Time.After(w.last.Time) && !alike(s, w.last):
		// What the caller has was said in a task that failed, and had counted
		// as far, or further.
		w.last, w.at.Seq = s, w.at.Seq+1
		return w.yield(stateEvent(w.id, w.at, &s), nil)
	}
	_, more := w.state(s)
	return more
}

// alike reports whether two states are the same but for when that was.
func alike(a, b handlers.State) bool {
	a.Time = b.Time
	return reflect.DeepEqual(a, b)
}

// hopsMax bounds how many successors of a run are followed.
const hopsMax = 100

// endOf yields the end of the chain that r was the newest known run of, when
// it is not the newest chain any more.
func (w *watch) endOf(r run) bool {
	for range hopsMax {
		d, err := w.calls.describe(w.ctx, w.id, r.id)
		if errors.Is(err, progress.ErrNotFound) {
			return w.forgotten()
		}
		if err != nil {
			return w.trouble(err)
		}
		end, err := w.calls.end(w.ctx, w.id, r.id)
		if err != nil {
			return w.trouble(err)
		}
		if end.Successor == "" {
			d.status = end.Status
			return w.close(d)
		}
		r = run{id: end.Successor, chain: r.chain}
	}
	return w.forgotten()
}

// forgotten yields the end of a chain that Temporal does not know any more.
func (w *watch) forgotten() bool {
	r := w.run
	r.status, r.closed = progress.StatusUnknown, time.Now()
	at := progress.Position{Epoch: max(w.at.Epoch, 1), Seq: w.at.Seq + 1}
	w.yield(closedEvent(w.id, &r, at, "Temporal does not know the run any more"), nil)
	return false
}

const (
	// minBackoff and maxBackoff bound how long a call that failed is not made
	// again, limitedBackoff is the upper bound where the server is too busy,
	// which one run that is busy does not say.
	minBackoff     = 200 * time.Millisecond
	maxBackoff     = 5 * time.Second
	limitedBackoff = 30 * time.Second
)

// trouble takes an error of a call: it ends the sequence if it is final.
// Otherwise the next call waits, and the caller is told, once, when calls
// have failed for as long as one may take.
func (w *watch) trouble(err error) bool { return w.troubled(&w.outage, err) }

func (w *watch) troubled(o *outage, err error) bool {
	if w.ctx.Err() != nil || isFinal(err) {
		return w.fail(err)
	}
	most := maxBackoff
	if isLimited(err) && !isBusy(err) {
		most = limitedBackoff
	}
	begun := time.Now()
	if isTimeout(err) {
		begun = begun.Add(-w.calls.timeout)
	} else {
		o.backoff = jittered(min(max(2*o.backoff, minBackoff), most))
	}
	if o.failing.IsZero() {
		o.failing = begun
	}
	if o.told || time.Since(o.failing) < w.calls.timeout {
		return true
	}
	known := w.told || w.refused.told
	o.told = true
	if known {
		return true
	}
	since := w.good
	if o.failing.Before(since) {
		since = o.failing
	}
	return w.yield(progress.Event{}, &Notice{Kind: Stale, Since: since, Reason: publicly(err), Cause: err})
}

// recovered notes that a worker has answered.
func (w *watch) recovered() bool {
	w.good = time.Now()
	return w.ended(&w.outage, "a worker answers again")
}

// ended ends an outage. The caller is told once there is no other.
func (w *watch) ended(o *outage, why string) bool {
	told := o.told
	*o = outage{}
	if !told || w.told || w.refused.told {
		return true
	}
	return w.live(why)
}

// live says that all is well again. What is still done in a lesser way is told
// behind it, since it takes back everything.
func (w *watch) live(why string) bool {
	return w.yield(progress.Event{}, &Notice{Kind: Live, Since: time.Now(), Reason: why}) &&
		(w.lesser == nil || w.yield(progress.Event{}, w.lesser))
}

// pollInstead polls until done says so, and has the caller told.
func (w *watch) pollInstead(p pace, n *Notice, done func() bool) bool {
	w.lesser = n
	defer func() { w.lesser = nil }()
	return w.yield(progress.Event{}, n) && w.poll(p, done)
}
