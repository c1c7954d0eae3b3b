package workerservice

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// ensureEvery is about how often the reconciler's schedule is looked
	// after: a Temporal server that lost its data has lost it, too.
	ensureEvery = 30 * time.Second
	// askTemporalFor bounds one question whether Temporal is there.
	askTemporalFor = time.Second
	// knownFor is how long an answer counts, so that a busy health check
	// costs Temporal nothing.
	knownFor = 2 * time.Second
)

// keep calls ensure about every so often until ctx ends, by up to a fifth
// earlier or later, so that many workers do not ask at once. It logs when
// ensure begins to fail, and when it works again.
func keep(ctx context.Context, logger *slog.Logger, what string, every time.Duration, ensure func(context.Context) error) {
	failing := false
	for {
		select {
		case <-time.After(every + time.Duration((rand.Float64()-0.5)*0.4*float64(every))):
		case <-ctx.Done():
			return
		}
		attempt, cancel := context.WithTimeout(ctx, askFor)
		err := ensure(attempt)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			logger.Warn(what+" could not be looked after; will try again", "error", err)
		case err == nil && failing:
			logger.Info(what + " is looked after again")
		}
		failing = err != nil
	}
}

// health asks one question, and remembers the answer for a while.
type health struct {
	ask func(context.Context) error

	mu   sync.Mutex
	at   time.Time // of the last answer; zero: none yet
	last error
}

// check returns the answer. Who asks while a question is under way waits for
// its answer.
func (h *health) check(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.at.IsZero() && time.Since(h.at) < knownFor {
		return h.last
	}
	// The answer is for others, too: it is not theirs to lose if this one
	// goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTemporalFor)
	defer cancel()
	h.last = h.ask(ctx)
	h.at = time.Now()
	return h.last
}
