package reporter_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// An activity of a terminated run goes on, and the next run of the ID is only
// queued. The activity's header may bear a later time than the store knows of
// its run: a second worker has gone on with it, and its start is a duplicate.
// So also when that run has ended before any worker took it.
func TestZombieWhileTheNextIsQueued(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{false, true} {
		t.Run(map[bool]string{false: "queued", true: "closed"}[closed], func(t *testing.T) {
			t.Parallel()
			testZombie(t, closed)
		})
	}
}

func testZombie(t *testing.T, nextIsClosed bool) {
	e := newEnv(t)
	release, reported := make(chan struct{}), make(chan error, 1)
	act := func(ctx context.Context) error {
		<-release
		a := reporter.Activity(ctx)
		a.Percent(77)
		reported <- a.Flush(context.WithoutCancel(ctx))
		return nil
	}
	wf := func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{Summary: "It", StartToCloseTimeout: time.Minute})
		return workflow.ExecuteActivity(ctx, "act").Get(ctx, nil)
	}
	e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(wf, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(act, activity.RegisterOptions{Name: "act"})
	})
	id := e.id()
	e.execute(client.StartWorkflowOptions{ID: id}, "wf")
	e.await(id, "running activity", func(events []progress.Event) bool {
		return slices.Contains(stepEvents(events, "It"), "running 1")
	})
	if err := e.client.TerminateWorkflow(t.Context(), id, "", "again"); err != nil {
		t.Fatal(err)
	}
	e.awaitClosed(id)
	// What a second worker's start leaves: the store's time is the first's.
	opt, err := redis.ParseURL(shared.redis)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	defer c.Close()
	if err := c.HSet(t.Context(), shared.prefix+":workflow:{"+redisstore.EncodeID(id)+"}", "run_time", 1).Err(); err != nil {
		t.Fatal(err)
	}
	second, err := e.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: e.queue + "-nobody"}, "wf")
	if err != nil {
		t.Fatal(err)
	}
	queued := progress.Event{
		WorkflowID: id, RunID: second.GetRunID(), Chain: second.GetRunID(), Type: progress.TypeStarted, Status: progress.StatusQueued, Time: time.Now(),
	}
	_, err = e.store.Append(t.Context(), redisstore.Append{
		WorkflowID: id, Events: []progress.Event{queued},
		Fence: redisstore.Fence{RunID: second.GetRunID(), Chain: second.GetRunID(), RunTime: queued.Time, Provisional: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if nextIsClosed {
		if err := e.client.TerminateWorkflow(t.Context(), id, "", ""); err != nil {
			t.Error(err)
		}
		e.await(id, "second end", func(events []progress.Event) bool { return len(closedEvents(events)) == 2 })
	}
	close(release)
	if err := <-reported; !errors.Is(err, progress.ErrSuperseded) {
		t.Errorf("the zombie's report: %v", err)
	}
	events := e.events(id)
	if last := events[len(events)-1]; last.RunID != second.GetRunID() {
		t.Errorf("the zombie has written into the next run:\n%s", list(events))
	}
	if !nextIsClosed {
		if err := e.client.TerminateWorkflow(t.Context(), id, "", ""); err != nil {
			t.Error(err)
		}
	}
}
