package strategy

import (
	"context"
	"math/rand/v2"
	"time"
)

// pace says how long to wait before the next look, by whether the last one
// saw a change.
type pace interface {
	next(changed bool) time.Duration
}

// steady looks at equal intervals.
type steady time.Duration

func (s steady) next(bool) time.Duration { return time.Duration(s) }

// adapting looks less and less often while nothing changes.
type adapting struct {
	min, max time.Duration
	factor   float64
	interval time.Duration // 0: not begun
}

func (a *adapting) next(changed bool) time.Duration {
	if changed || a.interval == 0 {
		a.interval = a.min
	} else {
		a.interval = min(time.Duration(float64(a.interval)*a.factor), a.max)
	}
	return max(jittered(a.interval), a.min)
}

// jittered returns up to a fifth less, so that those who began together do
// not go on together.
func jittered(d time.Duration) time.Duration {
	return d - time.Duration(rand.Float64()*float64(d)/5)
}

// sleep returns false when ctx ends first.
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
