package reporter

import (
	"context"
	"slices"
	"sync"
	"time"
)

// settling knows the activities whose function has returned while their last
// reports are still on the way. After the end of their chain, and after the
// first event of a later run, the store refuses what they have to say: so
// whoever is to write one of these waits for them. So does an activity that
// begins meanwhile, or the older state would come in behind its own. The zero
// value is ready to use.
type settling struct {
	mu sync.Mutex
	m  map[string][]*ActivityReporter // by workflow ID
}

// add notes that a's reports are on the way, unless they have just arrived.
func (s *settling) add(a *ActivityReporter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-a.ended:
		return // remove has been called, or finds nothing
	default:
	}
	if s.m == nil {
		s.m = make(map[string][]*ActivityReporter)
	}
	s.m[a.id.workflowID] = append(slices.Clip(s.m[a.id.workflowID]), a)
}

// remove forgets a, whose ended is closed.
func (s *settling) remove(a *ActivityReporter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := a.id.workflowID
	// Those who wait hold the old list.
	list := slices.DeleteFunc(slices.Clone(s.m[id]), func(b *ActivityReporter) bool { return a == b })
	if len(list) == 0 {
		delete(s.m, id)
		return
	}
	s.m[id] = list
}

// of returns the activities of a workflow ID that are settling now.
func (s *settling) of(workflowID string) []*ActivityReporter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[workflowID] // never changed in place
}

// wait returns when the reports of the workflow ID's runs that began before
// the given time are settled, or the bound is over. The zero time stands for
// all runs.
func (s *settling) wait(ctx context.Context, workflowID string, before time.Time, bound time.Duration) {
	list := s.of(workflowID)
	if !before.IsZero() {
		// Its own, or a later one, may wait for this one.
		list = slices.DeleteFunc(slices.Clone(list), func(a *ActivityReporter) bool { return !a.id.time.Before(before) })
	}
	waitSettled(ctx, list, bound)
}

// waitSettled returns when the reports of all of them are written or given
// up, or the bound is over.
func waitSettled(ctx context.Context, list []*ActivityReporter, bound time.Duration) {
	if len(list) == 0 {
		return
	}
	t := time.NewTimer(bound)
	defer t.Stop()
	for _, a := range list {
		select {
		case <-a.ended:
		case <-t.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
