package reporter_test

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
)

// Redis goes away in the middle of an activity and comes back, empty: the
// activity does not notice, what was reported meanwhile is written, and the
// run has its end.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	server, store := ownRedis(t)
	e.store = store

	begun, goOn := make(chan struct{}), make(chan struct{})
	e.queue += "-away"
	rep := e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
			return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
		}, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(func(ctx context.Context) error {
			p := reporter.Activity(ctx)
			p.Percent(10)
			if err := p.Flush(ctx); err != nil {
				return err
			}
			close(begun)
			<-goOn
			p.Percent(60)
			p.Log("meanwhile")
			return p.Flush(ctx) // until Redis is there again
		}, activity.RegisterOptions{Name: "act"})
	})
	run := e.execute(client.StartWorkflowOptions{}, "wf")
	<-begun
	epoch := e.events(run.GetID())[0].Epoch
	server.Stop()
	close(goOn)
	deadline := time.Now().Add(within)
	for rep.Stats().Retried == 0 {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was tried again: %+v", rep.Stats())
		}
		time.Sleep(5 * time.Millisecond)
	}
	comeBack(t, t.Context(), server, store)
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	events := e.events(run.GetID())
	if events[0].Epoch == epoch {
		t.Error("a new stream has the old one's epoch")
	}
	if len(only(events, func(e progress.Event) bool { return e.Message == "meanwhile" })) != 1 {
		t.Errorf("what was reported while Redis was away is not there:\n%s", list(events))
	}
	if s := rep.Stats(); s.Lost != 0 {
		t.Errorf("stats = %+v", s)
	}
}
