package reporter

import (
	"context"
	"sync"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// queue holds what workflow code reports until it is written. Workflow code
// must not wait, so put never does: what does not fit is lost and counted.
// The events of one workflow ID are written in order; while there are any, a
// goroutine of its own writes them.
type queue struct {
	r     *Reporter
	slots chan struct{} // bounds the calls to the store under way

	mu sync.Mutex
	// pending holds an entry for each workflow ID whose goroutine runs.
	pending map[string]*backlog
	n       int // events in pending and under way
}

// backlog is what of one workflow ID is still to be written.
type backlog struct {
	batches []*batch
	done    chan struct{} // closed when all of it is written or given up
}

// writersMax bounds how many workflows' events are written at once. One that
// waits, to try again or for something else, does not count: a part of the
// store that is away holds up nobody else.
const writersMax = 32

// batchMax bounds the events of one append.
const batchMax = 100

func (q *queue) init(r *Reporter) {
	q.r = r
	q.slots = make(chan struct{}, writersMax)
	q.pending = make(map[string]*backlog)
}

// put takes over b.
func (q *queue) put(b *batch) {
	b.since, b.slots = time.Now(), q.slots
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n+len(b.events) > q.r.opt.queueMax {
		q.r.count.lost.Add(int64(len(b.events)))
		return
	}
	q.n += len(b.events)
	l := q.pending[b.id.workflowID]
	if l == nil {
		l = &backlog{batches: []*batch{b}, done: make(chan struct{})}
		q.pending[b.id.workflowID] = l
		q.r.tasks.start(func(ctx context.Context) { q.drain(ctx, b.id.workflowID, l) })
		return
	}
	if n := len(l.batches); n == 0 || !l.batches[n-1].join(b) {
		l.batches = append(l.batches, b)
	}
}

// wait returns when nothing of the workflow ID is to be written any more, or
// the bound is over.
func (q *queue) wait(ctx context.Context, workflowID string, bound time.Duration) {
	q.mu.Lock()
	l := q.pending[workflowID]
	q.mu.Unlock()
	if l == nil {
		return
	}
	t := time.NewTimer(bound)
	defer t.Stop()
	select {
	case <-l.done:
	case <-t.C:
	case <-ctx.Done():
	}
}

// join appends the events of next to b if they go on from b's numbers.
func (b *batch) join(next *batch) bool {
	if b.ifOpen || next.ifOpen || b.id != next.id || b.producer != next.producer || next.number != b.number+int64(len(b.events)) ||
		len(b.events)+len(next.events) > batchMax {
		return false
	}
	b.events = append(b.events, next.events...)
	return true
}

// drain writes the workflow's events until there are none.
func (q *queue) drain(ctx context.Context, workflowID string, l *backlog) {
	for {
		q.mu.Lock()
		if len(l.batches) == 0 {
			delete(q.pending, workflowID)
			close(l.done)
			q.mu.Unlock()
			return
		}
		b := l.batches[0]
		l.batches = l.batches[1:]
		q.mu.Unlock()

		if b.ends || b.ifOpen {
			// Both are about what activities have reported.
			q.r.settling.wait(ctx, workflowID, time.Time{}, q.r.opt.settleFor())
			b.since = time.Now()
		}
		if !b.ifOpen || q.r.stepOpen(ctx, &b.events[0]) {
			// The error is counted and logged; the next event repairs the state.
			_ = q.r.write(ctx, b)
		}

		q.mu.Lock()
		q.n -= len(b.events)
		q.mu.Unlock()
	}
}

// workflowProducer names the writer of a run's own events. Code inside a
// workflow may run again from any point, so it cannot count: its numbers are
// made of history length and index, and rise with holes.
func workflowProducer(runID string) redisstore.Producer {
	return redisstore.Producer{Name: "w/" + runID, Sparse: true}
}

// closeProducer names the writer of a run's end. Everyone who finds out that
// the run has ended is this producer, and the end is its number 1: so there is
// one.
func closeProducer(runID string) redisstore.Producer {
	return redisstore.Producer{Name: "closed/" + runID}
}

func (id *identity) event(t progress.EventType) progress.Event {
	return progress.Event{WorkflowID: id.workflowID, RunID: id.runID, Chain: id.chainID(), Type: t, Time: time.Now()}
}
