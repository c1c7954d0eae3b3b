package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/workflows"
)

// ran is a ProgressiveWorkflow that has ended.
type ran struct {
	client client.Client
	run    client.WorkflowRun
	err    error // the workflow's
	snap   progress.Snapshot
	events []progress.Event
}

// run runs the workflow on a worker of its own until its chain is closed.
func run(t *testing.T, in workflows.ProgressiveInput) ran {
	t.Helper()
	c := testenv.TemporalWith(t, client.Options{Identity: "test"})
	store, err := redisstore.Open(t.Context(), testenv.Redis(t).URL(), redisstore.Options{Prefix: testenv.Prefix(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	queue := testenv.Prefix(t)
	w := worker.New(c, queue, worker.Options{Plugins: []worker.Plugin{reporter.New(c, store)}})
	workflows.Register(w, workflows.Deps{})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r := ran{client: c}
	id := workflows.ProgressiveID("")
	r.run, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: queue}, workflows.ProgressiveName, in)
	if err != nil {
		t.Fatal(err)
	}
	r.err = r.run.Get(ctx, nil)
	for {
		view, err := store.Read(ctx, id, 1, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		if !view.Snapshot.Closed() {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		r.snap = view.Snapshot
		for _, raw := range view.Events {
			e, err := progress.DecodeEvent(raw.Data)
			if err != nil {
				t.Fatal(err)
			}
			r.events = append(r.events, e)
		}
		return r
	}
}

// steps returns the steps with their status, in order.
func (r *ran) steps() string {
	var list []string
	for _, s := range r.snap.Steps {
		list = append(list, fmt.Sprintf("%s %s", s.Name, s.Status))
	}
	return strings.Join(list, ", ")
}

func (r *ran) count(ok func(progress.Event) bool) int {
	n := 0
	for _, e := range r.events {
		if ok(e) {
			n++
		}
	}
	return n
}

func isType(t progress.EventType) func(progress.Event) bool {
	return func(e progress.Event) bool { return e.Type == t }
}

// It continues as new when it is advised to, with the steps that are done.
func TestProgressiveWorkflowHeedsAdvice(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterActivity(activities.DoStep)
	env.SetContinueAsNewSuggested(true)
	env.ExecuteWorkflow(workflows.ProgressiveWorkflow, workflows.ProgressiveInput{Steps: 5, StepMS: 1, Done: 1})
	var next *workflow.ContinueAsNewError
	if err := env.GetWorkflowError(); !errors.As(err, &next) {
		t.Fatalf("it ended with %v", err)
	}
	var in workflows.ProgressiveInput
	if err := converter.GetDefaultDataConverter().FromPayloads(next.Input, &in); err != nil || in.Steps != 5 || in.Done != 2 {
		t.Errorf("it goes on with %+v, %v", in, err)
	}
}

func TestProgressiveWorkflow(t *testing.T) {
	r := run(t, workflows.ProgressiveInput{Steps: 3, StepMS: 80, Output: true})
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.snap.Status != progress.StatusCompleted || r.snap.Percent == nil || *r.snap.Percent != 100 || *r.snap.Current != 3 || *r.snap.Total != 3 {
		t.Errorf("snapshot = %+v", r.snap)
	}
	if got, want := r.steps(), "Step 1 completed, Step 2 completed, Step 3 completed"; got != want {
		t.Errorf("steps = %s, want %s", got, want)
	}
	if e := r.events[0]; e.Type != progress.TypeStarted || e.WorkflowType != workflows.ProgressiveName {
		t.Errorf("first event = %+v", e)
	}
	if n := r.count(isType(progress.TypeClosed)); n != 1 {
		t.Errorf("%d closed events", n)
	}
	if n := r.count(isType(progress.TypeOutput)); n < 3 {
		t.Errorf("%d pieces of output", n)
	}
	// The bar only moves forward.
	last := -1.0
	for _, e := range r.events {
		if e.Type == progress.TypeProgress {
			if e.Percent == nil || *e.Percent < last {
				t.Errorf("percent %v after %v", e.Percent, last)
				continue
			}
			last = *e.Percent
		}
	}
}

func TestProgressiveWorkflowFails(t *testing.T) {
	r := run(t, workflows.ProgressiveInput{Steps: 3, StepMS: 20, FailAt: 2})
	if r.err == nil || r.snap.Status != progress.StatusFailed || r.snap.Error != "step 2 failed, as asked" {
		t.Errorf("error = %v, snapshot = %+v", r.err, r.snap)
	}
	if got, want := r.steps(), "Step 1 completed, Step 2 failed"; got != want {
		t.Errorf("steps = %s, want %s", got, want)
	}
	if n := r.count(func(e progress.Event) bool { return e.Attempt > 1 }); n != 0 {
		t.Error("the step was tried again")
	}
}

func TestProgressiveWorkflowContinues(t *testing.T) {
	r := run(t, workflows.ProgressiveInput{Steps: 4, StepMS: 20, ContinueAt: 3})
	if r.err != nil || r.snap.Status != progress.StatusCompleted || r.snap.RunID == r.events[0].RunID || r.snap.Chain != r.events[0].RunID {
		t.Errorf("error = %v, snapshot = %+v", r.err, r.snap)
	}
	if got, want := r.steps(), "Step 3 completed, Step 4 completed"; got != want {
		t.Errorf("steps of the second run = %s, want %s", got, want)
	}
	if n := r.count(isType(progress.TypeStarted)); n != 2 {
		t.Errorf("%d runs", n)
	}
	if n := r.count(isType(progress.TypeClosed)); n != 1 {
		t.Errorf("%d closed events", n)
	}
}

func TestProgressiveWorkflowRefuses(t *testing.T) {
	for _, tc := range []struct {
		in   workflows.ProgressiveInput
		want string
	}{
		{workflows.ProgressiveInput{Steps: -1}, "steps is -1"},
		{workflows.ProgressiveInput{Steps: 101}, "steps is 101"},
		{workflows.ProgressiveInput{StepMS: -5}, "step_ms is -5"},
		{workflows.ProgressiveInput{StepMS: 3_600_001}, "step_ms is 3600001"},
		{workflows.ProgressiveInput{Steps: 3, FailAt: 4}, "fail_at is 4"},
		{workflows.ProgressiveInput{Steps: 3, ContinueAt: 1}, "continue_at is 1"},
		{workflows.ProgressiveInput{Steps: 3, ContinueAt: 4}, "continue_at is 4"},
		{workflows.ProgressiveInput{Steps: 3, Done: 3}, "done is 3"},
	} {
		_, err := tc.in.WithDefaults()
		var failure *temporal.ApplicationError
		if !errors.As(err, &failure) || !failure.NonRetryable() || failure.Type() != workflows.InvalidInput || !strings.Contains(failure.Message(), tc.want) {
			t.Errorf("%+v: %v", tc.in, err)
		}
	}
	r := run(t, workflows.ProgressiveInput{Steps: 101})
	if r.snap.Status != progress.StatusFailed || r.snap.Error != "steps is 101; it must be from 1 to 100" {
		t.Errorf("snapshot = %+v", r.snap)
	}
}

func TestDefaults(t *testing.T) {
	in, err := workflows.ProgressiveInput{}.WithDefaults()
	if err != nil || in.Steps != 10 || in.StepMS != 1000 {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestProgressiveID(t *testing.T) {
	if id := workflows.ProgressiveID("order-42"); id != "progressive-order-42" {
		t.Errorf("id = %q", id)
	}
	if a, b := workflows.ProgressiveID(""), workflows.ProgressiveID(""); a == b {
		t.Error("two IDs without a name are the same")
	}
	if !slices.Contains(workflows.Names(), workflows.ProgressiveName) {
		t.Error("the workflow cannot be started by name")
	}
}
