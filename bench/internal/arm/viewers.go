package arm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/workload"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// viewer is one that watches a run. Its own goroutine alone uses it until
// that has ended.
type viewer struct {
	run int
	// seen is when each change was seen, in Unix ns; 0: never.
	seen     []int64
	from, to time.Time
	ends     int
	err      string
	degraded bool
	stale    bool
	of       int // changes
}

// item is what a watch yields.
type item struct {
	event progress.Event
	err   error
}

// take notes what a watch has yielded. That ctx is over is no error of the
// watch: its viewer has not seen the end.
func (v *viewer) take(ctx context.Context, i item) {
	now := time.Now()
	var notice *strategy.Notice
	switch {
	case errors.As(i.err, &notice):
		v.degraded = v.degraded || notice.Kind == strategy.Degraded
		v.stale = v.stale || notice.Kind == strategy.Stale
	case i.err != nil && ctx.Err() != nil:
	case i.err != nil:
		v.err = i.err.Error()
	case i.event.Type == progress.TypeClosed:
		v.ends++
	default:
		if n := workload.Change(&i.event, v.of); n > 0 && v.seen[n-1] == 0 {
			v.seen[n-1] = now.UnixNano()
		}
	}
}

// audience is all viewers of an arm.
type audience struct {
	strategy   strategy.Strategy
	viewers    []*viewer
	overflowed atomic.Int64
}

// backlog is how much of a shared watch a viewer may leave lying.
const backlog = 256

// follow has all viewers watch until each has seen the end, or ctx is over.
// They come evenly within spread.
func (a *audience) follow(ctx context.Context, runs []run, shared bool, spread time.Duration) {
	var all sync.WaitGroup
	begin := time.Now()
	places := make([][]chan item, len(runs))
	for i, v := range a.viewers {
		var place chan item
		if shared {
			place = make(chan item, backlog)
			places[v.run] = append(places[v.run], place)
		}
		all.Go(func() {
			if !pause(ctx, time.Until(begin.Add(spread*time.Duration(i)/time.Duration(len(a.viewers))))) {
				return
			}
			v.from = time.Now()
			defer func() { v.to = time.Now() }()
			if shared {
				for it := range place {
					v.take(ctx, it)
				}
				return
			}
			for e, err := range a.strategy.Watch(ctx, runs[v.run].id, progress.Position{}) {
				v.take(ctx, item{e, err})
			}
		})
	}
	if shared {
		for n := range runs {
			all.Go(func() {
				if pause(ctx, time.Until(begin.Add(spread*time.Duration(n)/time.Duration(len(runs))))) {
					a.share(ctx, runs[n].id, places[n])
				}
				for _, place := range places[n] {
					close(place)
				}
			})
		}
	}
	all.Wait()
}

// share hands on what one watch yields. It waits for nobody.
func (a *audience) share(ctx context.Context, id string, places []chan item) {
	for e, err := range a.strategy.Watch(ctx, id, progress.Position{}) {
		for _, place := range places {
			select {
			case place <- item{e, err}:
			default:
				a.overflowed.Add(1)
			}
		}
	}
}

// pause returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sum adds what all viewers saw to the result. changes are the times of each
// run's; nil where they are not known, which leaves its viewers out.
func (a *audience) sum(r *Result, changes [][]time.Time) {
	var took latency.Histogram
	r.Errors, r.Notices = make(map[string]int), make(map[string]int)
	for _, v := range a.viewers {
		if !v.from.IsZero() {
			r.WatchMinutes += v.to.Sub(v.from).Minutes()
		}
		switch {
		case v.err != "":
			r.Errors[v.err]++
		case v.ends > 1:
			r.Doubled++
		case v.ends == 1:
			r.Ended++
		}
		if v.degraded {
			r.Notices[strategy.Degraded]++
		}
		if v.stale {
			r.Notices[strategy.Stale]++
		}
		v.sum(r, changes[v.run], &took)
	}
	r.Overflowed = a.overflowed.Load()
	r.Latency = took.Summary()
}

// sum adds what one viewer saw. A change that was jumped over reached it with
// the newer one.
func (v *viewer) sum(r *Result, changes []time.Time, took *latency.Histogram) {
	var known int64
	for n := len(changes) - 1; n >= 0; n-- {
		at := v.seen[n]
		if at != 0 {
			r.Seen++
		}
		switch {
		case at != 0 && (known == 0 || at < known):
			known = at
		case known == 0:
			r.Late++
			continue
		}
		if at == 0 {
			r.Missed++
		}
		took.Add(time.Duration(known - changes[n].UnixNano()))
	}
}
