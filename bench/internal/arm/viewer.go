package arm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/workload"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// Viewer is one that watches a run, and what it saw. Until it is done, its own
// goroutine alone uses it.
type Viewer struct {
	// Run is the run's number, from 0.
	Run int `json:"run"`
	// Seen is when each change was seen, in Unix ns; 0: never. It is made for
	// as many as there are to be.
	Seen []int64 `json:"seen"`
	// From and To are when it began and ended to watch; zero: it did not.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Ends is how often it saw the end, Gaps how often it was told that
	// something is missing. Err is what else ended its watch; empty: nothing.
	Ends int    `json:"ends"`
	Gaps int    `json:"gaps"`
	Err  string `json:"err,omitempty"`
	// Degraded and Stale say that it was told so.
	Degraded bool `json:"degraded,omitempty"`
	Stale    bool `json:"stale,omitempty"`
}

// Follow has viewers watch runs, by their IDs, until each has seen the end or
// ctx is over. They come evenly within spread.
type Follow func(ctx context.Context, runs []string, viewers []*Viewer, spread time.Duration) error

// State notes a state that the viewer has got.
func (v *Viewer) State(percent *float64) {
	if n := workload.Change(percent, len(v.Seen)); n > 0 && v.Seen[n-1] == 0 {
		v.Seen[n-1] = time.Now().UnixNano()
	}
}

// Notice notes that the viewer was told how its run is followed.
func (v *Viewer) Notice(kind string) {
	v.Degraded = v.Degraded || kind == strategy.Degraded
	v.Stale = v.Stale || kind == strategy.Stale
}

// Fail notes what ended the watch. That ctx is over is no error of it: the
// viewer has not seen the end.
func (v *Viewer) Fail(ctx context.Context, err error) {
	if ctx.Err() == nil {
		v.Err = err.Error()
	}
}

// Await waits until the viewer, which is number i of n, is to come. It returns
// false when ctx ends first.
func Await(ctx context.Context, begin time.Time, spread time.Duration, i, n int) bool {
	return pause(ctx, time.Until(begin.Add(spread*time.Duration(i)/time.Duration(n))))
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

// take notes what a watch has yielded.
func (v *Viewer) take(ctx context.Context, e *progress.Event, err error) {
	var notice *strategy.Notice
	switch {
	case errors.As(err, &notice):
		v.Notice(notice.Kind)
	case err != nil:
		v.Fail(ctx, err)
	case e.Type == progress.TypeClosed:
		v.Ends++
	default:
		v.State(e.Percent)
	}
}

// sum adds what all viewers saw to the result. changes are the times of each
// run's; nil where they are not known, which leaves its viewers out.
func sum(viewers []*Viewer, r *Result, changes [][]time.Time) {
	var took latency.Histogram
	r.Errors, r.Notices = make(map[string]int), make(map[string]int)
	for _, v := range viewers {
		if !v.From.IsZero() {
			r.WatchMinutes += v.To.Sub(v.From).Minutes()
		}
		switch {
		case v.Err != "":
			r.Errors[v.Err]++
		case v.Ends > 1:
			r.Doubled++
		case v.Ends == 1:
			r.Ended++
		}
		if v.Degraded {
			r.Notices[strategy.Degraded]++
		}
		if v.Stale {
			r.Notices[strategy.Stale]++
		}
		r.Gaps += v.Gaps
		v.sum(r, changes[v.Run], &took)
	}
	r.Latency = took.Summary()
}

// sum adds what one viewer saw. A change that was jumped over reached it with
// the newer one.
func (v *Viewer) sum(r *Result, changes []time.Time, took *latency.Histogram) {
	var known int64
	for n := len(changes) - 1; n >= 0; n-- {
		at := v.Seen[n]
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

// Audience is who watches what.
type Audience struct {
	// Runs are IDs.
	Runs    []string  `json:"runs"`
	Viewers []*Viewer `json:"viewers"`
}

// Check reports an audience that cannot be.
func (a *Audience) Check() error {
	if len(a.Viewers) > MaxViewers {
		return fmt.Errorf("%d viewers; there may be up to %d", len(a.Viewers), MaxViewers)
	}
	for _, v := range a.Viewers {
		if v == nil || v.Run < 0 || v.Run >= len(a.Runs) {
			return errors.New("a viewer has no run")
		}
	}
	return nil
}
