// Package reporter writes what happens in Temporal workers to a Runcast
// store, so that viewers can follow it live.
//
// One plugin makes every run of a worker visible, with no change to workflow
// code and no event in Temporal's history:
//
//	c, err := client.Dial(client.Options{})
//	store, err := redisstore.Open(ctx, "redis://127.0.0.1:6379", redisstore.Options{})
//	rep := reporter.New(c, store)
//	w := worker.New(c, "orders", worker.Options{Plugins: []worker.Plugin{rep}})
//	w.RegisterWorkflow(Order)
//	w.RegisterActivity(Pack)
//	err = w.Run(worker.InterruptCh())
//
// An activity says more with [Activity], a workflow with [Workflow]:
//
//	p := reporter.Activity(ctx)
//	p.Count(3, 10)       // the run's bar
//	p.Log("packed a lamp")
//	p.Output("Dear ")    // streamed text, such as model tokens
//
// No call of it blocks, and none fails: a report that cannot be written is
// retried for a while, then dropped, counted in [Reporter.Stats], and named
// as lost in the next event. Without the plugin on the worker all of them do
// nothing, so code that reports can be tested and run without a store.
//
// The end of a run is not what its code says but what Temporal says: see
// [Reporter] for the close confirmation and [EnsureReconciler] for all runs
// whose worker cannot tell.
//
// The package knows no HTTP and no viewers.
package reporter
