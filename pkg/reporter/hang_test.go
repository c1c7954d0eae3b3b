package reporter_test

import (
	"context"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
)

// Redis hangs while runs end, and continue as new, on two workers, and goes on
// with all its data; a reconciler looks on. The streams go on where they were:
// no number is missing, nothing is there twice, and each chain ends once.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	server, store := ownRedis(t)
	e.store = store
	const n = 8
	begun, goOn := make(chan struct{}, 2*n), make(chan struct{})
	e.queue += "-hangs"
	register := func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(func(ctx workflow.Context, again bool) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{Summary: "It", StartToCloseTimeout: time.Minute})
			if err := workflow.ExecuteActivity(ctx, "act").Get(ctx, nil); err != nil || !again {
				return err
			}
			return workflow.NewContinueAsNewError(ctx, "wf", false)
		}, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(func(ctx context.Context) error {
			p := reporter.Activity(ctx)
			p.Percent(10)
			begun <- struct{}{}
			<-goOn
			p.Percent(100)
			p.Log("meanwhile")
			return nil
		}, activity.RegisterOptions{Name: "act"})
	}
	one := e.worker(register, reporter.WithFlushFor(10*time.Millisecond))
	two := e.worker(register, reporter.WithFlushFor(10*time.Millisecond))

	queue := "reconciler-" + testenv.Prefix(t)
	rec := worker.New(e.client, queue, worker.Options{Plugins: []worker.Plugin{reporter.New(e.client, store, reporter.WithReconciler(200))}})
	if err := rec.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Stop)
	if err := reporter.EnsureReconciler(t.Context(), e.client, queue, time.Second); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.client.ScheduleClient().GetHandle(context.Background(), reporter.ReconcilerID(queue)).Delete(context.Background())
	})

	var runs []client.WorkflowRun
	for i := range n {
		runs = append(runs, e.execute(client.StartWorkflowOptions{}, "wf", i%2 == 1))
	}
	for range n {
		<-begun
	}
	epochs := make(map[string]int64)
	for _, run := range runs {
		events := e.await(run.GetID(), "start", started)
		epochs[run.GetID()] = events[0].Epoch
	}
	awake := server.Pause(t)
	close(goOn)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for _, run := range runs {
		if err := run.Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(within); one.Stats().Retried == 0 || two.Stats().Retried == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not both try again: %+v, %+v", one.Stats(), two.Stats())
		}
	}
	awake()
	for _, run := range runs {
		e.awaitClosed(run.GetID())
	}
	for _, rep := range []*reporter.Reporter{one, two} {
		if err := rep.WaitIdle(ctx); err != nil {
			t.Fatal(err)
		}
		if s := rep.Stats(); s.Lost != 0 {
			t.Errorf("stats = %+v", s)
		}
	}
	for _, run := range runs {
		events := e.events(run.GetID())
		e.contiguous(events)
		if events[0].Epoch != epochs[run.GetID()] {
			t.Error("the stream is another")
		}
		if closed := closedEvents(events); len(closed) != 1 || closed[0].Seq != int64(len(events)) || closed[0].Status != progress.StatusCompleted {
			t.Errorf("%d closed events:\n%s", len(closed), list(events))
		}
		seen := make(map[string]bool)
		for _, ev := range events {
			if ev.Lost != 0 {
				t.Errorf("event %d lost %d", ev.Seq, ev.Lost)
			}
			if ev.Message != "meanwhile" {
				continue
			}
			if seen[ev.RunID] {
				t.Errorf("a line is there twice:\n%s", list(events))
			}
			seen[ev.RunID] = true
		}
	}
}
