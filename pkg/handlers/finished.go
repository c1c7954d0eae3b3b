package handlers

import "go.temporal.io/sdk/workflow"

// AwaitAllFinished waits until the run's own update handlers are over. It is
// for workflows that have some, in place of workflow.Await with
// workflow.AllHandlersFinished: that waits for those who follow the run by
// [Update] as well, who wait for its next change in turn. Here they are
// answered, with a version more than they know, and until it returns nobody
// else may wait. The error is that of a canceled context.
func AwaitAllFinished(ctx workflow.Context) error {
	if h, _ := ctx.Value(handlersKey{}).(*Handlers); h != nil && h.state.Returned == "" {
		if h.waiting > 0 {
			h.count(ctx, h.state)
		}
		h.settling++
		defer func() { h.settling-- }()
	}
	return workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
}
