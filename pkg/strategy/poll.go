package strategy

import (
	"context"
	"iter"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// PollEvery is how often [Polling] looks.
const PollEvery = 500 * time.Millisecond

// PollOptions configures [NewPoll]. The zero value of each field is its
// default.
type PollOptions struct {
	CallOptions
	// Every is the pause between two looks; default: [PollEvery].
	Every time.Duration
}

// Polling looks at equal intervals: it describes the workflow, and queries it
// while it runs. It is the baseline.
type Polling struct {
	calls *calls
	every time.Duration
}

var _ Strategy = (*Polling)(nil)

// NewPoll returns the strategy poll.
func NewPoll(t Temporal, o PollOptions) *Polling {
	if o.Every <= 0 {
		o.Every = PollEvery
	}
	return &Polling{newCalls(t, o.CallOptions), o.Every}
}

// Watch implements [Strategy].
func (p *Polling) Watch(ctx context.Context, workflowID string, after progress.Position) iter.Seq2[progress.Event, error] {
	return watchEach(ctx, p.calls, workflowID, after, func(w *watch) { w.poll(steady(p.every), nil) })
}
