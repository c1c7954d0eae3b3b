package handlers

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// adviceVersion is the change ID behind which runs heed the advice where they
// wait: those that were advised before they knew of it go on.
const adviceVersion = "runcast.continue-as-advised"

// ContinueAsNewAdvised reports whether the run should continue as new soon:
// Temporal suggests it, since its history is long or it has taken many
// updates, or what its followers may ask of it is nearly spent. Workflow code
// that loops calls it in place of GetContinueAsNewSuggested. Without handlers
// in the context it is Temporal's suggestion alone.
//
// Whoever heeds it returns workflow.NewContinueAsNewError with what is known.
// The plugin hands the subscribers on; the signals of the workflow's own have
// to be taken before, see [Turn].
func ContinueAsNewAdvised(ctx workflow.Context) bool {
	h, _ := ctx.Value(handlersKey{}).(*Handlers)
	return h.ContinueAsNewAdvised(ctx)
}

// ContinueAsNewAdvised is the function of that name, for who has installed
// the handlers and has no context with them.
func (h *Handlers) ContinueAsNewAdvised(ctx workflow.Context) bool {
	return workflow.GetInfo(ctx).GetContinueAsNewSuggested() ||
		h != nil && (nearly(h.accepted, h.opt.MaxUpdates) || nearly(h.deliveries.spent, maxDeliveries))
}

// nearly reports whether a budget is spent but for a tenth, or a half of one
// that is small. Of the usual budgets that is not before Temporal suggests it,
// of which histories tell.
func nearly(spent, most int) bool { return spent >= most-max(most/19, min(most/2, 1)) }

// Woken is why [AwaitWithTimeout] has returned.
type Woken int

// The reasons.
const (
	// ByTimeout: the time is over. The zero value.
	ByTimeout Woken = iota
	// ByCondition: what was awaited is so.
	ByCondition
	// ByAdvice: the run should continue as new, with what is awaited and for
	// how long. All coroutines had their turn: the signals that had come were
	// taken by those that take them.
	ByAdvice
)

// AwaitWithTimeout is workflow.AwaitWithTimeout for runs that wait long: it
// returns as well once the run should continue as new
// ([ContinueAsNewAdvised]). The error is that of a canceled context.
func AwaitWithTimeout(ctx workflow.Context, timeout time.Duration, condition func() bool) (Woken, error) {
	if condition() {
		return ByCondition, nil
	}
	timerCtx, stop := workflow.WithCancel(ctx)
	timer := workflow.NewTimer(timerCtx, timeout)
	for heed := true; ; {
		err := workflow.Await(ctx, func() bool {
			return condition() || timer.IsReady() || heed && ContinueAsNewAdvised(ctx)
		})
		if err == nil && heed && !condition() && !timer.IsReady() {
			if heed = workflow.GetVersion(ctx, adviceVersion, workflow.DefaultVersion, 1) == 1; !heed {
				continue
			}
			if err = Turn(ctx); err == nil && !condition() && !timer.IsReady() {
				stop()
				return ByAdvice, nil
			}
		}
		switch {
		case err != nil:
			return ByTimeout, err
		case condition():
			stop()
			return ByCondition, nil
		}
		return ByTimeout, nil
	}
}

// Turn lets all other coroutines of the run go on until each of them waits. A
// coroutine that takes signals has one in hand when the workflow's main one is
// woken by the same task: without a turn, who returns then loses it. It makes
// no command, and waits for nothing else.
func Turn(ctx workflow.Context) error {
	// The new coroutine is the last in line, so all others come before it.
	had := false
	workflow.Go(ctx, func(workflow.Context) { had = true })
	return workflow.Await(ctx, func() bool { return had })
}
