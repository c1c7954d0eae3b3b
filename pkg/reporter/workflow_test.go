package reporter_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// sayMuch reports all that a workflow can, around an activity and a signal.
func sayMuch(ctx workflow.Context) error {
	w := reporter.Workflow(ctx)
	w.Count(1, 10)
	w.Message("packing")
	w.Step("plan", progress.StatusRunning, "")
	w.Step("plan", progress.StatusCompleted, "planned")
	actx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	if err := workflow.ExecuteActivity(actx, quickActivity).Get(ctx, nil); err != nil {
		return err
	}
	lctx := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second, Summary: "Locally"})
	if err := workflow.ExecuteLocalActivity(lctx, quickActivity).Get(ctx, nil); err != nil {
		return err
	}
	if err := workflow.SetQueryHandler(ctx, "state", func() (string, error) {
		reporter.Workflow(ctx).Percent(99) // a query must report nothing
		return "fine", nil
	}); err != nil {
		return err
	}
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	if err := workflow.ExecuteActivity(actx, quickActivity).Get(ctx, nil); err != nil {
		return err
	}
	w.Percent(100)
	return nil
}

func registerSayMuch(r worker.Registry) {
	r.RegisterWorkflow(sayMuch)
	r.RegisterActivity(quickActivity)
}

func TestWorkflowReports(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerSayMuch)
	run := e.execute(client.StartWorkflowOptions{Memo: map[string]any{"runcast.tags": []string{"orders", "", "eu"}}}, sayMuch)
	e.await(run.GetID(), "local activity", func(events []progress.Event) bool {
		return slices.Contains(stepEvents(events, "Locally"), "completed 1")
	})
	if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
		t.Fatal(err)
	}
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	snap, err := e.store.Snapshot(t.Context(), run.GetID())
	if err != nil {
		t.Fatal(err)
	}
	if snap.Percent == nil || *snap.Percent != 100 || *snap.Current != 1 || snap.Message != "packing" || snap.Type != "sayMuch" ||
		!slices.Equal(snap.Tags, []string{"orders", "eu"}) {
		t.Errorf("snapshot = %+v", snap)
	}
	// The workflow's own reports and its activities' are written by different
	// producers, which do not wait for each other: so "plan" may come second.
	var names []string
	for _, s := range snap.Steps {
		names = append(names, s.Name+" "+string(s.Status))
	}
	slices.Sort(names)
	want := []string{"Locally completed", "plan completed", "quickActivity completed", "quickActivity#2 completed"}
	if !slices.Equal(names, want) {
		t.Errorf("steps = %q, want %q", names, want)
	}
}

// A replay reports nothing that was reported before, wherever it happens.
func TestReplaysReportNothingTwice(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerSayMuch)
	run := e.execute(client.StartWorkflowOptions{}, sayMuch)
	before := e.await(run.GetID(), "local activity", func(events []progress.Event) bool {
		return slices.Contains(stepEvents(events, "Locally"), "completed 1")
	})
	for range 3 {
		worker.PurgeStickyWorkflowCache()
		v, err := e.client.QueryWorkflow(t.Context(), run.GetID(), "", "state")
		if err != nil {
			t.Fatal(err)
		}
		var state string
		if err := v.Get(&state); err != nil || state != "fine" {
			t.Fatalf("state = %q, %v", state, err)
		}
	}
	worker.PurgeStickyWorkflowCache()
	if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
		t.Fatal(err)
	}
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)
	events := e.events(run.GetID())
	if n := len(only(events, isStarted)); n != 1 {
		t.Errorf("%d started events", n)
	}
	// What the second half adds, and nothing of the first.
	for _, ev := range events[len(before):] {
		if ev.Step != "quickActivity#2" && ev.Type != progress.TypeProgress && ev.Type != progress.TypeClosed {
			t.Errorf("a repetition after the replay:\n%s", list(events))
		}
		if ev.Percent != nil && *ev.Percent == 99 {
			t.Error("a query has reported")
		}
	}
}

func history(t *testing.T, c client.Client, run client.WorkflowRun) *historypb.History {
	t.Helper()
	var h historypb.History
	it := c.GetWorkflowHistory(t.Context(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		ev, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		h.Events = append(h.Events, ev)
	}
	return &h
}

// The plugin leaves no trace in the history, so histories of workers with and
// without it replay with and without it.
func TestHistoriesReplayWithAndWithout(t *testing.T) {
	t.Parallel()
	counts := map[bool]int{}
	for _, with := range []bool{false, true} {
		e := newEnv(t)
		e.queue += map[bool]string{true: "-with", false: "-without"}[with]
		if with {
			e.worker(registerSayMuch)
		} else {
			e.start(worker.Options{}, registerSayMuch)
		}
		run := e.execute(client.StartWorkflowOptions{}, sayMuch)
		if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		if err := run.Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
		h := history(t, e.client, run)
		for _, ev := range h.Events {
			switch ev.EventType {
			case enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
				// How many tasks there are depends on when the signal comes.
			default:
				counts[with]++
			}
		}
		for _, replayWith := range []bool{false, true} {
			for what, h := range map[string]*historypb.History{"whole": h, "cut": cut(h)} {
				store := &countingStore{Store: e.store}
				rep := reporter.New(e.client, store)
				o := worker.WorkflowReplayerOptions{}
				if replayWith {
					o.Plugins = []worker.Plugin{rep}
				}
				replayer, err := worker.NewWorkflowReplayerWithOptions(o)
				if err != nil {
					t.Fatal(err)
				}
				replayer.RegisterWorkflow(sayMuch)
				if err := replayer.ReplayWorkflowHistory(nil, h); err != nil {
					t.Errorf("ran with plugin: %v, replayed with plugin: %v, %s: %v", with, replayWith, what, err)
				}
				if err := rep.WaitIdle(t.Context()); err != nil {
					t.Fatal(err)
				}
				if n := store.appends.Load(); n != 0 {
					t.Errorf("the replayer of the %s history wrote %d times", what, n)
				}
			}
		}
	}
	if counts[true] != counts[false] {
		t.Errorf("%d events with the plugin, %d without", counts[true], counts[false])
	}
}

// cut returns the history until its last task begins, which has then not
// been completed: its code runs live in a replayer too.
func cut(h *historypb.History) *historypb.History {
	for i := len(h.Events) - 1; ; i-- {
		if h.Events[i].EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED {
			return &historypb.History{Events: h.Events[:i+1]}
		}
	}
}

type countingStore struct {
	reporter.Store
	appends atomic.Int64
}

func (s *countingStore) Append(ctx context.Context, a redisstore.Append) (redisstore.Result, error) {
	s.appends.Add(1)
	return s.Store.Append(ctx, a)
}

// stuckStore never answers before the caller gives up.
type stuckStore struct{ reporter.Store }

func (stuckStore) Append(ctx context.Context, _ redisstore.Append) (redisstore.Result, error) {
	<-ctx.Done()
	return redisstore.Result{}, ctx.Err()
}

func (stuckStore) Snapshot(ctx context.Context, _ string) (progress.Snapshot, error) {
	<-ctx.Done()
	return progress.Snapshot{}, ctx.Err()
}

// A store that hangs delays no workflow task, and an activity only by the
// bound of its flush.
func TestStuckStoreBlocksNoWorkflow(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	rep := reporter.New(e.client, stuckStore{e.store}, reporter.WithFlushFor(50*time.Millisecond), reporter.WithRetryFor(time.Second))
	e.start(worker.Options{Plugins: []worker.Plugin{rep}}, registerSayMuch)
	run := e.execute(client.StartWorkflowOptions{}, sayMuch)
	if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	for _, ev := range history(t, e.client, run).Events {
		if ev.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED || ev.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT {
			t.Errorf("a workflow task has failed: %v", ev)
		}
	}
	if s := rep.Stats(); s.Unflushed == 0 {
		t.Errorf("stats = %+v", s)
	}
}

// dialStarter returns a client that notes what it starts, and what does so.
func (e *env) dialStarter(store reporter.Store) (client.Client, *reporter.Starts) {
	starts := reporter.ClientInterceptor(store)
	e.t.Cleanup(func() { starts.Stop(context.WithoutCancel(e.t.Context())) })
	return testenv.TemporalWith(e.t, client.Options{Logger: quiet(), Interceptors: []interceptor.ClientInterceptor{starts}}), starts
}

func TestQueued(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c, starts := e.dialStarter(e.store)
	id, queue := e.id(), e.queue
	for round := range 2 {
		// In each round there is first no worker, and then one.
		e.queue = queue + string(rune('a'+round))
		o := client.StartWorkflowOptions{ID: id, TaskQueue: e.queue, Memo: map[string]any{"runcast.tags": []string{"orders"}}}
		run, err := c.ExecuteWorkflow(t.Context(), o, doWork, Work{Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		starts.Stop(t.Context()) // which waits for the note
		snap, err := e.store.Snapshot(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if snap.Status != progress.StatusQueued || snap.RunID != run.GetRunID() || snap.Chain != run.GetRunID() ||
			snap.Type != "doWork" || !slices.Equal(snap.Tags, []string{"orders"}) {
			t.Errorf("round %d: snapshot = %+v", round, snap)
		}
		// A start that finds the run going on notes nothing.
		if _, err := c.ExecuteWorkflow(t.Context(), o, doWork, Work{Wait: true}); err != nil {
			t.Fatal(err)
		}
		starts.Stop(t.Context())
		e.worker(registerWork)
		e.await(id, "start", func(events []progress.Event) bool {
			last := events[len(events)-1]
			return last.Status == progress.StatusRunning && last.RunID == run.GetRunID()
		})
		if err := e.client.SignalWorkflow(t.Context(), id, "", "go", nil); err != nil {
			t.Fatal(err)
		}
		events := e.await(id, "end", func(events []progress.Event) bool { return len(closedEvents(events)) == round+1 })
		if n := len(only(events, func(e progress.Event) bool { return e.Status == progress.StatusQueued })); n != round+1 {
			t.Errorf("%d queued events:\n%s", n, list(events))
		}
	}
	if got, want := starts.Stats(), (reporter.StartsStats{Written: 4}); got != want { // two of them were there already
		t.Errorf("stats %+v, want %+v", got, want)
	}
}
