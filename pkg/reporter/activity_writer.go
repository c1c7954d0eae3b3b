package reporter

import (
	"context"
	"errors"
	"time"
)

// bytesPerWrite bounds the text of one append, roughly.
const bytesPerWrite = 256 << 10

// run writes what the activity reports, until the activity has ended and
// everything is settled. There is one append under way at a time, so that a
// number is never overtaken.
func (a *ActivityReporter) run(ctx context.Context) {
	// What an activity before this one reported is older: written later, it
	// would stand as the newest state.
	waitSettled(ctx, a.earlier, a.r.opt.settleFor())
	a.earlier = nil
	var last time.Time
	for {
		ending := a.waitForWork(ctx, last)
		last = time.Now()
		err := a.writeAll(ctx)
		if ended(err) {
			a.mu.Lock()
			a.refused = err
			a.mu.Unlock()
		}
		if ending || ctx.Err() != nil {
			break
		}
	}
	a.stop()
	close(a.ended)
	a.r.settling.remove(a)
	a.leave(ctx)
}

var errStopped = errors.New("reporter: it was stopped before this was written")

// stop counts what nobody will write any more: where the reporter was stopped
// under an activity that goes on, also all that this still says.
func (a *ActivityReporter) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.finished {
		a.over = errStopped
	}
	if n := a.buffer.drop(); n > 0 {
		a.lost(n)
		a.over = errStopped
	}
}

// waitForWork returns when there is something to write and the interval since
// the last write is over, or at once when it must not wait. It reports
// whether the activity has ended.
func (a *ActivityReporter) waitForWork(ctx context.Context, last time.Time) (ending bool) {
	select {
	case <-a.wake:
	case <-a.urgent:
		return false
	case <-a.ending:
		return true
	case <-ctx.Done():
		return true
	}
	wait := time.Until(last.Add(a.r.opt.interval))
	if wait <= 0 {
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-a.urgent:
		return false
	case <-a.ending:
		return true
	case <-ctx.Done():
		return true
	}
}

// errDropped is what a flush learns when a buffer was full.
var errDropped = errors.New("reporter: more was reported than could be held, and some of it was dropped")

// writeAll writes what is pending, and answers those who wait for it. Unless
// somebody does, what is reported meanwhile is left to the next write, so that
// an activity which reports without a pause has one in each interval.
func (a *ActivityReporter) writeAll(ctx context.Context) error {
	var failed error
	a.mu.Lock()
	until := a.buffer.end()
	a.mu.Unlock()
	for {
		a.mu.Lock()
		if a.buffer.taken >= until && a.buffer.taken < a.buffer.end() && len(a.flushes) == 0 && !a.finished {
			a.mu.Unlock()
			return failed
		}
		events := a.buffer.take(batchMax, bytesPerWrite)
		jump := int64(0)
		if len(a.buffer.entries) == 0 {
			// What did not fit came after all that did, and is missing from
			// the numbers that follow.
			jump, a.buffer.refused = a.buffer.refused, 0
			if jump > 0 {
				a.failed = errDropped
			}
		}
		if len(events) == 0 {
			flushes, answer := a.flushes, a.failed
			if answer == nil {
				answer = a.refused
			}
			a.flushes = nil
			a.next += jump
			a.mu.Unlock()
			for _, done := range flushes {
				a.failed = nil
				done <- answer
			}
			return failed
		}
		since := a.since
		a.mu.Unlock()

		var err error
		if failed != nil && !since.IsZero() && time.Since(since) > a.r.opt.retryFor {
			// Others wait for the end of this backlog, and no longer than that.
			err = failed
			a.lost(int64(len(events)))
		} else {
			err = a.r.write(ctx, &batch{id: a.id, producer: a.producer, number: a.next, events: events, since: since})
		}
		a.next += int64(len(events)) + jump
		if err != nil {
			failed, a.failed = err, err
		}
	}
}

// leaveTries is how often leaving is tried.
const leaveTries = 4

// leave says that nothing more will come of the producer, also of one whose
// activity somebody else completes. When that fails, its entry goes with the
// next run or the expiry.
func (a *ActivityReporter) leave(ctx context.Context) {
	a.mu.Lock()
	refused := a.refused
	a.mu.Unlock()
	if refused != nil {
		return
	}
	backoff := backoffFirst
	for try := 1; ; try++ {
		err := a.leaveOnce(ctx)
		if err == nil || final(err) {
			return
		}
		if try == leaveTries || !sleep(ctx, backoff) {
			a.r.opt.logger.Debug("a producer could not leave", "workflow_id", a.id.workflowID, "error", err)
			return
		}
		backoff = min(10*backoff, backoffMost)
	}
}

func (a *ActivityReporter) leaveOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	return a.r.store.Leave(ctx, a.id.workflowID, a.producer)
}
