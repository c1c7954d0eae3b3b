package follow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/hub"
)

// upstream follows one workflow, for all its viewers. Its goroutine (run) is
// the source's; Remove waits for it.
type upstream struct {
	source *Source
	sink   Sink
	name   progress.Topic
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	// told is closed once there is something to say of the workflow.
	told     chan struct{}
	tellOnce sync.Once

	// heard is when the newest event came, whether it said anything new or
	// not, and failures how many sequences in a row failed since. Only run
	// uses them.
	heard    time.Time
	failures int
	// refusals counts those in a row: asking may cost the workflow something.
	refusals int
	// placed says that it has one of the source's places. Only run uses it.
	placed bool

	mu   sync.Mutex
	snap progress.Snapshot
	// last is the event that the snapshot ends with, in wire form.
	last []byte
	// err is why the newest sequence ended, nil once another one says
	// something; final says that it cannot be followed at all.
	err   error
	final bool
}

// staleAfter is how many sequences in a row may fail before viewers are told
// that what they see is stale: a second or so.
const staleAfter = 3

// maxAgain bounds how long it takes until a workflow that cannot be followed is
// asked again, with somebody waiting all the time.
const maxAgain = time.Minute

func (u *upstream) run(ctx context.Context) {
	defer close(u.done)
	defer func() {
		if u.placed {
			u.source.leave()
		}
	}()
	for {
		err := u.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(u.ended(err)):
		case <-ctx.Done():
			return
		}
	}
}

// follow follows one sequence to its end and returns its error.
func (u *upstream) follow(ctx context.Context) error {
	if !u.placed {
		if u.placed = u.source.place(); !u.placed {
			return errFull
		}
	}
	stats := u.source.Stats()
	stats.Begun.Add(1)
	for e, err := range u.source.o.Watcher.Watch(ctx, u.name.Name, u.after()) {
		var notice *Notice
		switch {
		case err == nil:
			u.event(&e)
		case errors.As(err, &notice):
			if notice.Cause != nil {
				u.source.o.Logger.Warn("a workflow is not followed as it should be",
					"workflow", u.name.Name, "kind", string(notice.Kind), "error", notice.Cause)
			}
			u.notice(notice.Notice)
		default:
			return err
		}
	}
	return nil
}

// after returns where to go on. What has ended is followed from its state as
// it is, since another run may have begun.
func (u *upstream) after() progress.Position {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.snap.Closed() {
		return progress.Position{}
	}
	return u.snap.Position()
}

// event takes the next event and passes it on, if it is new.
func (u *upstream) event(e *progress.Event) {
	stats := u.source.Stats()
	u.heard, u.failures = time.Now(), 0
	if u.refusals == 0 {
		u.sink.Resolve(u.name, hub.ReasonStale)
	}
	if e.Epoch <= 0 || e.Seq <= 0 {
		stats.Bad.Add(1)
		return
	}
	e.Check = "" // a version has none
	data := encode(e)
	u.mu.Lock()
	epoch, seq := u.snap.Epoch, u.snap.Seq
	err := u.snap.Advance(e)
	if err == nil {
		u.last = data
	}
	u.err, u.final = nil, false
	u.mu.Unlock()
	if err != nil {
		stats.Known.Add(1)
	} else {
		stats.Events.Add(1)
		if u.refusals > 0 {
			// What is known already may come before each refusal.
			u.refusals = 0
			u.sink.Resolve(u.name, hub.ReasonStale)
		}
		if seq > 0 && e.Epoch == epoch && e.Seq > seq+1 {
			stats.Skipped.Add(e.Seq - seq - 1)
		}
		if epoch != 0 && e.Epoch != epoch {
			u.sink.Resolve(u.name, hub.ReasonDegraded) // that was the run before
		}
		u.sink.Message(u.name, data)
	}
	u.tell()
}

func (u *upstream) notice(n hub.Notice) {
	switch n.Kind {
	case Live:
		u.heard, u.failures = time.Now(), 0
		u.sink.Resolve(u.name, hub.ReasonStale)
		u.sink.Resolve(u.name, hub.ReasonDegraded)
		return
	case hub.ReasonStale:
		u.source.stats.Stale.Add(1)
	case hub.ReasonDegraded:
		u.source.stats.Degraded.Add(1)
	default:
		u.source.o.Logger.Warn("a notice of an unknown kind is left out", "workflow", u.name.Name, "kind", string(n.Kind))
		return
	}
	u.sink.Notice(u.name, n)
	u.tell()
}

// tell says that there is something to say.
func (u *upstream) tell() { u.tellOnce.Do(func() { close(u.told) }) }

// ended takes the end of a sequence and returns how long to wait for the next
// one.
func (u *upstream) ended(err error) time.Duration {
	o, stats := &u.source.o, u.source.Stats()
	full := errors.Is(err, errFull)
	final := full || errors.Is(err, progress.ErrNotFound) || errors.Is(err, ErrRefused)
	u.mu.Lock()
	u.err, u.final = err, final && u.snap.Seq == 0
	final = u.final
	u.mu.Unlock()
	switch {
	case err == nil:
		return o.Again
	case full:
		u.tell()
		return o.Again
	case final || errors.Is(err, ErrRefused):
		// It is refused as well where a state is all that can be had of it.
		stats.Refused.Add(1)
		defer u.tell()
		if errors.Is(err, progress.ErrNotFound) {
			return o.Again
		}
		// Who is there already, since it took long to find out, is told why.
		u.sink.Notice(u.name, hub.Notice{Kind: hub.ReasonStale, Since: u.heard, Detail: err.Error()})
		u.refusals++
		return max(o.Again, min(o.Again<<min(u.refusals-1, 8), maxAgain))
	}
	stats.Failures.Add(1)
	u.failures++
	if u.failures == 1 {
		o.Logger.Warn("a workflow cannot be followed just now; it is tried again", "workflow", u.name.Name, "error", err)
	}
	if u.failures == staleAfter {
		u.notice(hub.Notice{Kind: hub.ReasonStale, Since: u.heard, Detail: "it cannot be followed just now; it is tried again"})
	}
	return backoff(u.failures)
}

// backoff returns how long to wait after so many failures in a row: up to ten
// seconds, spread.
func backoff(failures int) time.Duration {
	d := min(200*time.Millisecond<<min(failures-1, 8), 10*time.Second)
	return d/2 + rand.N(d/2)
}

func (u *upstream) view() progress.View {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := progress.View{Snapshot: u.snap.Clone()}
	if u.last != nil {
		v.Events = []progress.RawEvent{{Seq: u.snap.Seq, Data: u.last}}
	}
	return v
}

func (u *upstream) failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

func (u *upstream) refused() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.final {
		return u.err
	}
	return nil
}

// encode returns the wire form: one line, without escapes that only HTML
// needs.
func encode(e *progress.Event) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(e) != nil {
		return nil // Data that is no JSON: the hub counts it as a bad message
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
