package handlers

import "go.temporal.io/sdk/workflow"

// ContinueAsNewAdvised reports whether the run should continue as new soon:
// Temporal suggests it, since its history is long or it has taken many
// updates, or what its followers may ask of it is nearly spent. Workflow code
// that loops calls it in place of GetContinueAsNewSuggested. Without handlers
// in the context it is Temporal's suggestion alone.
//
// Whoever heeds it returns workflow.NewContinueAsNewError with what is known,
// once the signals of its own are taken. The plugin hands the subscribers on.
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

// nearly reports whether a budget is spent but for about a twentieth, which of
// 1,900 updates is where Temporal suggests it, and at least one where there is
// more than one.
func nearly(spent, most int) bool { return spent >= most-max(most/19, min(most/2, 1)) }
