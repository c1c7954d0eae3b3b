package reporter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
)

// seen does all that counts a version, one thing after the other.
func seen(ctx workflow.Context) error {
	actx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	if err := workflow.ExecuteActivity(actx, quickActivity).Get(ctx, nil); err != nil {
		return err
	}
	lctx := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second, Summary: "Locally"})
	if err := workflow.ExecuteLocalActivity(lctx, quickActivity).Get(ctx, nil); err != nil {
		return err
	}
	w := reporter.Workflow(ctx)
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	w.Count(3, 4)
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	w.Step("plan", progress.StatusRunning, "planning")
	if err := workflow.ExecuteActivity(actx, brokenActivity).Get(ctx, nil); err == nil {
		return errors.New("the activity has not failed")
	}
	w.Percent(100)
	return nil
}

func brokenActivity(context.Context) error { return errors.New("broken") }

func registerSeen(r worker.Registry) {
	r.RegisterWorkflow(seen)
	r.RegisterActivity(quickActivity)
	r.RegisterActivity(brokenActivity)
}

// wait waits by the update for the state behind s, from the first one on
// where s is zero.
func (e *env) wait(id string, s handlers.State) handlers.State {
	e.t.Helper()
	return e.answer(e.ask(id, s))
}

// ask begins to wait, answer ends it.
func (e *env) ask(id string, s handlers.State) client.WorkflowUpdateHandle {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), within)
	defer cancel()
	h, err := e.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: handlers.Update, Args: []any{handlers.Wait{Started: s.Started, Version: s.Version}},
		WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return h
}

func (e *env) answer(h client.WorkflowUpdateHandle) (s handlers.State) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), within)
	defer cancel()
	if err := h.Get(ctx, &s); err != nil {
		e.t.Fatal(err)
	}
	return s
}

// The plugin counts what workflow code sees, with no code in the workflow; and
// a history with waits in it replays, which it only does where a replay counts
// the same.
func TestPluginCountsWhatWorkflowsSee(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]bool{"with a store": true, "without a store": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			var rep *reporter.Reporter
			if store {
				rep = e.worker(registerSeen)
			} else {
				rep = reporter.New(e.client, nil)
				e.store = nil
				e.start(worker.Options{Plugins: []worker.Plugin{rep}}, registerSeen)
			}
			run, err := e.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
				ID: e.id(), TaskQueue: e.queue, Memo: map[string]any{"runcast.tags": []string{"ovens"}},
			}, seen)
			if err != nil {
				t.Fatal(err)
			}
			s := e.wait(run.GetID(), handlers.State{})
			for s.Step != "Locally" || s.StepStatus != progress.StatusCompleted {
				s = e.wait(run.GetID(), s)
			}
			if s.Version != 5 { // the start, and two steps that begin and end
				t.Errorf("the version is %d: %+v", s.Version, s)
			}
			// Whoever waits is answered by the next change, in a task that
			// replays all before.
			waiting := e.ask(run.GetID(), s)
			worker.PurgeStickyWorkflowCache()
			e.signal(run.GetID())
			got := e.answer(waiting)
			if got.Version != 6 || got.Current == nil || *got.Current != 3 || got.Percent == nil || *got.Percent != 75 || !slices.Equal(got.Tags, []string{"ovens"}) {
				t.Errorf("the next state is %+v", got)
			}
			e.signal(run.GetID())
			if err := run.Get(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			v, err := e.client.QueryWorkflow(t.Context(), run.GetID(), "", handlers.Query)
			if err != nil {
				t.Fatal(err)
			}
			var last handlers.State
			if err := v.Get(&last); err != nil {
				t.Fatal(err)
			}
			// "plan", the activity's begin and end, 100 %, the return.
			if last.Version != 11 || last.Step != "brokenActivity" || last.StepStatus != progress.StatusFailed || *last.Percent != 100 || last.Returned != progress.StatusCompleted {
				t.Errorf("the last state is %+v", last)
			}
			h := history(t, e.client, run)
			for what, h := range map[string]*historypb.History{"whole": h, "cut": cut(h)} {
				replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: []worker.Plugin{rep}})
				if err != nil {
					t.Fatal(err)
				}
				replayer.RegisterWorkflow(seen)
				if err := replayer.ReplayWorkflowHistory(nil, h); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if s := rep.Stats(); !store && fmt.Sprint(s) != fmt.Sprint(reporter.Stats{}) {
				t.Errorf("without a store it has counted %+v", s)
			}
		})
	}
}

func (e *env) signal(id string) {
	e.t.Helper()
	if err := e.client.SignalWorkflow(e.t.Context(), id, "", "go", nil); err != nil {
		e.t.Fatal(err)
	}
}

// What is left out is not there, and the reconciler never has it.
func TestWithoutHandlers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.worker(registerSeen, reporter.WithoutHandlers())
	run := e.execute(client.StartWorkflowOptions{}, seen)
	if _, err := e.client.QueryWorkflow(t.Context(), run.GetID(), "", handlers.Query); err == nil || !strings.Contains(err.Error(), handlers.Query) {
		t.Errorf("the query says %v", err)
	}
	e.signal(run.GetID())
	e.signal(run.GetID())
	e.theEnd(run.GetID(), progress.StatusCompleted, soon)

	rec, err := e.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: shared.queue}, "runcast.Reconciler")
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.QueryWorkflow(t.Context(), rec.GetID(), rec.GetRunID(), handlers.Query); err == nil {
		t.Error("the reconciler can be followed")
	}
}

// A state is one JSON object with the fields that docs/following.md names.
func TestStateJSON(t *testing.T) {
	p, n := 50.0, int64(1)
	text, err := json.Marshal(handlers.State{
		Started: 1, Version: 2, Time: time.Unix(1, 0).UTC(), RunID: "r", Chain: "c", Type: "t", Percent: &p, Current: &n, Total: &n,
		Step: "s", StepStatus: progress.StatusQueued, Message: "m", Tags: []string{"g"}, Returned: progress.StatusCompleted,
	})
	want := `{"started":1,"version":2,"time":"1970-01-01T00:00:01Z","run_id":"r","chain":"c","type":"t","percent":50,"current":1,"total":1,` +
		`"step":"s","step_status":"queued","message":"m","tags":["g"],"returned":"completed"}`
	if err != nil || string(text) != want {
		t.Errorf("it is %s, %v", text, err)
	}
}
