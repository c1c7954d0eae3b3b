package reporter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

const (
	// callFor bounds one call to the store.
	callFor = 2 * time.Second
	// makeWayFor bounds one attempt to find out the end of a new chain's
	// predecessor.
	makeWayFor = 3 * time.Second

	backoffFirst = 20 * time.Millisecond
	backoffMost  = time.Second
)

// identity is the run that events are about.
type identity struct {
	workflowID, runID, workflowType string
	// time is the run's first live workflow task; zero when it is not known.
	time time.Time
	// first is the first run's ID as Temporal names it; empty: not known.
	first string
	// reset says that a reset made the run.
	reset bool

	mu sync.Mutex
	// chain is the first run's ID, unless the run was made by a reset of a
	// chain that had ended. Guarded by mu.
	chain string
}

func (id *identity) chainID() string {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.chain
}

func (id *identity) setChain(chain string) {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.chain = chain
}

// batch is one append: some events of one producer, with their first number.
type batch struct {
	id       *identity
	producer redisstore.Producer
	number   int64
	events   []progress.Event
	// begins says that these are probably the run's first events, so that the
	// way has to be made free for them.
	begins bool
	// ifOpen says that the one event, a step's end, is only to be written if
	// the store has the step and not its end.
	ifOpen bool
	// ends says that it is the chain's end, after which nothing is taken.
	ends bool
	// since is when the batch was first to be written.
	since time.Time
	// slots bounds, together with others, the calls under way; nil: unbounded.
	slots chan struct{}
}

// write appends b. What fails for now is tried again, unchanged, until the
// bound; the error says what kept it from being written in the end. Either
// way the counters are up to date when it returns.
func (r *Reporter) write(ctx context.Context, b *batch) error {
	if b.since.IsZero() {
		b.since = time.Now()
	}
	until := b.since.Add(r.opt.retryFor)
	backoff := backoffFirst
	for {
		err := r.appendOnce(ctx, b)
		if err == nil {
			r.count.written.Add(int64(len(b.events)))
			return nil
		}
		if final(err) {
			if !b.ifOpen { // what was open has been closed meanwhile
				r.count.refused.Add(int64(len(b.events)))
			}
			return err
		}
		wait := backoff/2 + rand.N(backoff)
		if time.Now().Add(wait).After(until) || !sleep(ctx, wait) {
			r.count.lost.Add(int64(len(b.events)))
			r.opt.logger.Warn("progress was dropped", "workflow_id", b.id.workflowID, "run_id", b.id.runID, "events", len(b.events), "error", err)
			return err
		}
		r.count.retried.Add(1)
		backoff = min(2*backoff, backoffMost)
	}
}

// final reports whether trying again cannot help. An error of no class is
// taken for trouble on the way.
func final(err error) bool {
	return errors.Is(err, progress.ErrSuperseded) || errors.Is(err, progress.ErrClosed) ||
		errors.Is(err, progress.ErrInvalid) || errors.Is(err, progress.ErrTooManyProducers)
}

// ended reports whether the store will take nothing more of this producer.
func ended(err error) bool {
	return errors.Is(err, progress.ErrSuperseded) || errors.Is(err, progress.ErrClosed)
}

// appendOnce first appends without the run's time, which the store takes only
// from the run that it knows as the current one. So whoever is first to write
// for a new run learns that it is, and can see to the end of the chain before
// it.
func (r *Reporter) appendOnce(ctx context.Context, b *batch) error {
	var err error
	if !b.begins || b.id.time.IsZero() {
		err = r.call(ctx, b, time.Time{})
		if !errors.Is(err, progress.ErrUnknownRun) || b.id.time.IsZero() {
			return r.reopened(ctx, b, time.Time{}, err)
		}
	}
	if err := r.makeWay(ctx, b); err != nil {
		return err
	}
	return r.reopened(ctx, b, b.id.time, r.call(ctx, b, b.id.time))
}

func (r *Reporter) call(ctx context.Context, b *batch, runTime time.Time) error {
	if b.slots != nil {
		select {
		case b.slots <- struct{}{}:
			defer func() { <-b.slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	chain := b.id.chainID()
	for i := range b.events {
		b.events[i].Chain = chain
		if r.opt.noErrors {
			b.events[i].Error = ""
		}
	}
	_, err := r.store.Append(ctx, redisstore.Append{
		WorkflowID: b.id.workflowID,
		Fence:      redisstore.Fence{RunID: b.id.runID, Chain: chain, RunTime: runTime},
		Producer:   b.producer,
		Number:     b.number,
		Events:     b.events,
	})
	return err
}

// reopened handles the answers that say that the run's chain is not what it
// takes it for. After a reset of a chain that had ended, the events form a
// chain of their own, named by the run that the reset made; runs that continue
// it take their chain from the store. See docs/decisions/0001-reset-after-end.md.
func (r *Reporter) reopened(ctx context.Context, b *batch, runTime time.Time, err error) error {
	reopens := errors.Is(err, redisstore.ErrReopened)
	if !reopens && !errors.Is(err, progress.ErrInvalid) {
		return err
	}
	snap, snapErr := r.snapshot(ctx, b.id.workflowID)
	if snapErr != nil && reopens {
		return snapErr
	}
	chain := b.id.runID
	if snap.RunID == b.id.runID && !snap.Closed() {
		chain = snap.Chain
	} else if !reopens {
		return err
	} else if !b.id.reset {
		// Whoever closed the chain knew of an earlier run only.
		return fmt.Errorf("the chain of run %s has been closed: %w", b.id.runID, progress.ErrClosed)
	}
	if chain == b.id.chainID() {
		return err
	}
	b.id.setChain(chain)
	return r.call(ctx, b, runTime)
}

// makeWay closes the chain before this run's, if it is another one and still
// open: once the new run's events are there, the old chain takes no more, and
// its viewers would wait for an end that never comes.
//
// When Temporal or the store does not answer, the error has it tried again for
// half the time that b has; the other half is left for b itself.
func (r *Reporter) makeWay(ctx context.Context, b *batch) error {
	id := b.id
	r.settling.wait(ctx, id.workflowID, id.time, r.opt.settleFor())
	snap, err := r.snapshot(ctx, id.workflowID)
	switch {
	case errors.Is(err, progress.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	if snap.RunID == "" || snap.RunID == id.runID || snap.Closed() || snap.Seq == 0 {
		return nil
	}
	if snap.Chain == id.chainID() {
		return nil // the run's own chain goes on
	}
	if r.client == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, makeWayFor)
	defer cancel()
	o, err := r.closeChain(ctx, &snap, nil)
	switch {
	case err != nil && !final(err) && time.Since(b.since) < r.opt.retryFor/2:
		return err
	case err != nil:
		// The new run must not wait for ever, and the old one's end is lost.
		r.count.unconfirmed.Add(1)
		r.opt.logger.Warn("a chain gave way to the next before its end was known, and is never closed", "workflow_id", id.workflowID, "run_id", snap.RunID, "error", err)
	case o.status == "" && o.has(id):
		// The chain goes on with this run, under the name that a reset gave it.
		id.setChain(snap.Chain)
	case o.status == "":
		// Of one workflow ID one run is open at a time, and it is another. The
		// store cannot always tell: it may know this run by an older time than
		// this worker, and of the open one only that it was queued.
		return fmt.Errorf("run %s is not the open one: %w", id.runID, progress.ErrSuperseded)
	}
	return nil
}

// stepOpen reports whether the store holds the step of the event for not yet
// ended, in the run of the event. When it does not say, it is taken for no:
// then the chain's end is near, or nothing of the run is there.
func (r *Reporter) stepOpen(ctx context.Context, e *progress.Event) bool {
	snap, err := r.snapshot(ctx, e.WorkflowID)
	return err == nil && snap.RunID == e.RunID && !snap.Closed() && slices.ContainsFunc(snap.Steps, func(s progress.Step) bool {
		return s.Name == e.Step && !s.Status.IsTerminal()
	})
}

func (r *Reporter) snapshot(ctx context.Context, workflowID string) (progress.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	return r.store.Snapshot(ctx, workflowID)
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
