package strategy

import (
	"context"
	"iter"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// The defaults of [AdaptiveOptions].
const (
	AdaptiveMin    = 100 * time.Millisecond
	AdaptiveMax    = 5 * time.Second
	AdaptiveFactor = 1.5
)

// AdaptiveOptions configures [NewAdaptive]. The zero value of each field is
// its default.
type AdaptiveOptions struct {
	CallOptions
	// Min is the pause after a change. Each pause that follows is longer by
	// Factor, up to Max. Defaults: [AdaptiveMin], [AdaptiveFactor],
	// [AdaptiveMax]. A Factor must be at least 1.
	Min, Max time.Duration
	Factor   float64
}

// AdaptivePolling looks as [Polling] does, but the less often the longer
// nothing has changed.
type AdaptivePolling struct {
	calls *calls
	pace  adapting // copied by each watch
}

var _ Strategy = (*AdaptivePolling)(nil)

// NewAdaptive returns the strategy adaptive.
func NewAdaptive(t Temporal, o AdaptiveOptions) *AdaptivePolling {
	return &AdaptivePolling{newCalls(t, o.CallOptions), newAdapting(o)}
}

func newAdapting(o AdaptiveOptions) adapting {
	if o.Min <= 0 {
		o.Min = AdaptiveMin
	}
	if o.Max <= 0 {
		o.Max = AdaptiveMax
	}
	if o.Factor < 1 {
		o.Factor = AdaptiveFactor
	}
	return adapting{min: o.Min, max: max(o.Min, o.Max), factor: o.Factor}
}

// Watch implements [Strategy].
func (a *AdaptivePolling) Watch(ctx context.Context, workflowID string, after progress.Position) iter.Seq2[progress.Event, error] {
	return watchEach(ctx, a.calls, workflowID, after, func(w *watch) {
		p := a.pace
		w.poll(&p, nil)
	})
}
