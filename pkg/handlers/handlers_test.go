package handlers_test

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// office is one test's worker on the shared server.
type office struct {
	t      *testing.T
	client client.Client
	queue  string
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, queue: "queue-" + testenv.Prefix(t)}
	log := sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 4})))
	o.client = testenv.TemporalWith(t, client.Options{Logger: log})
	w := worker.New(o.client, o.queue, worker.Options{})
	w.RegisterWorkflowWithOptions(told, workflow.RegisterOptions{Name: "Told"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return o
}

// told changes with each signal, until it is told to return or is canceled.
func told(ctx workflow.Context) error {
	h, err := handlers.Install(ctx, handlers.Options{Tags: []string{"oven"}})
	if err != nil {
		return err
	}
	end := func() error {
		for {
			var text string
			s := workflow.NewSelector(ctx)
			s.AddReceive(workflow.GetSignalChannel(ctx, "say"), func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, &text) })
			s.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
			s.Select(ctx)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case text == "return":
				return nil
			case text == "fail":
				return errors.New("burnt")
			case text == "continue":
				return workflow.NewContinueAsNewError(ctx, "Told")
			}
			h.Change(ctx, func(s *handlers.State) {
				s.Message = text
				s.Version, s.RunID, s.Returned = 99, "forged", progress.StatusFailed
				nan := 0.0
				nan /= nan
				s.Percent = &nan
			})
		}
	}()
	h.Finish(ctx, handlers.StatusOf(end))
	h.Finish(ctx, progress.StatusTerminated)
	h.Change(ctx, func(s *handlers.State) { s.Message = "too late" })
	return end
}

func (o *office) start() client.WorkflowRun {
	o.t.Helper()
	run, err := o.client.ExecuteWorkflow(o.t.Context(), client.StartWorkflowOptions{ID: "wf-" + testenv.Prefix(o.t), TaskQueue: o.queue}, "Told")
	if err != nil {
		o.t.Fatal(err)
	}
	return run
}

func (o *office) say(run client.WorkflowRun, text string) {
	o.t.Helper()
	if err := o.client.SignalWorkflow(o.t.Context(), run.GetID(), "", "say", text); err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) state(run client.WorkflowRun) handlers.State {
	o.t.Helper()
	v, err := o.client.QueryWorkflow(o.t.Context(), run.GetID(), run.GetRunID(), handlers.Query)
	if err != nil {
		o.t.Fatal(err)
	}
	var s handlers.State
	if err := v.Get(&s); err != nil {
		o.t.Fatal(err)
	}
	return s
}

// next begins to wait, and returns once that was accepted.
func (o *office) next(run client.WorkflowRun, w handlers.Wait) (client.WorkflowUpdateHandle, error) {
	o.t.Helper()
	return o.client.UpdateWorkflow(o.t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: run.GetID(), RunID: run.GetRunID(), UpdateName: handlers.Update, Args: []any{w},
		WaitForStage: client.WorkflowUpdateStageAccepted,
	})
}

func (o *office) history(run client.WorkflowRun) *historypb.History {
	o.t.Helper()
	var h historypb.History
	it := o.client.GetWorkflowHistory(o.t.Context(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			o.t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	return &h
}

func TestState(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run := o.start()
	s := o.state(run)
	if s.Version != 1 || s.Started <= 0 || s.RunID != run.GetRunID() || s.Chain != run.GetRunID() || s.Type != "Told" ||
		s.Time.UnixMilli() != s.Started || !slices.Equal(s.Tags, []string{"oven"}) || s.Returned != "" {
		t.Errorf("the first state is %+v", s)
	}
	o.say(run, "one")
	o.say(run, "two")
	o.say(run, "return")
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	// One version for each change and one for the end; and code cannot forge
	// what is counted.
	last := o.state(run)
	if last.Version != 4 || last.Started != s.Started || last.RunID != s.RunID || last.Message != "two" ||
		last.Returned != progress.StatusCompleted || last.Percent != nil {
		t.Errorf("the last state is %+v", last)
	}
	// The same in a replay, which a query of a run that is not cached is.
	worker.PurgeStickyWorkflowCache()
	if again := o.state(run); again.Version != last.Version || again.Started != last.Started || !again.Time.Equal(last.Time) {
		t.Errorf("a replay says %+v, not %+v", again, last)
	}
	for _, e := range o.history(run).Events {
		switch e.EventType {
		case enumspb.EVENT_TYPE_TIMER_STARTED, enumspb.EVENT_TYPE_MARKER_RECORDED, enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			t.Errorf("the handlers have left %v", e.EventType)
		}
	}
}

func TestUpdateWaits(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run := o.start()
	s := o.state(run)
	waiting, err := o.next(run, handlers.Wait{Started: s.Started, Version: s.Version})
	if err != nil {
		t.Fatal(err)
	}
	o.say(run, "one")
	var next handlers.State
	if err := waiting.Get(t.Context(), &next); err != nil || next.Version != 2 || next.Message != "one" {
		t.Errorf("the next state is %+v, %v", next, err)
	}
	for name, w := range map[string]handlers.Wait{
		"an older version": {Started: s.Started, Version: 1},
		"a run before":     {Started: s.Started - 1, Version: 1000},
		"a run behind":     {Started: s.Started + 1000, Version: 1000},
		"nothing":          {},
	} {
		h, err := o.next(run, w)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Get(t.Context(), &next); err != nil || next.Version != 2 {
			t.Errorf("who has %s gets %+v, %v", name, next, err)
		}
	}
	o.say(run, "return")
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	replay(t, o.history(run))
}

func replay(t *testing.T, h *historypb.History) {
	t.Helper()
	r := worker.NewWorkflowReplayer()
	r.RegisterWorkflowWithOptions(told, workflow.RegisterOptions{Name: "Told"})
	if err := r.ReplayWorkflowHistory(nil, h); err != nil {
		t.Error(err)
	}
}

// However a run ends, by its own doing, who waits gets an answer and no
// error.
func TestFinishLetsWaitingUpdatesGo(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for how, want := range map[string]progress.Status{
		"return": progress.StatusCompleted, "fail": progress.StatusFailed,
		"continue": progress.StatusRunning, "cancel": progress.StatusCanceled,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			o := &office{t: t, client: o.client, queue: o.queue}
			run := o.start()
			s := o.state(run)
			var waiting []client.WorkflowUpdateHandle
			for range 3 {
				h, err := o.next(run, handlers.Wait{Started: s.Started, Version: s.Version})
				if err != nil {
					t.Fatal(err)
				}
				waiting = append(waiting, h)
			}
			if how == "cancel" {
				if err := o.client.CancelWorkflow(t.Context(), run.GetID(), ""); err != nil {
					t.Fatal(err)
				}
			} else {
				o.say(run, how)
			}
			for _, h := range waiting {
				var last handlers.State
				if err := h.Get(t.Context(), &last); err != nil || last.Returned != want || last.Version != 2 {
					t.Errorf("who waits gets %+v, %v; want one that has returned %q", last, err, want)
				}
			}
			if how == "continue" {
				if next := o.state(newest{run}); next.Started == s.Started || next.Version != 1 || next.Chain != s.Chain {
					t.Errorf("the next run is at %+v", next)
				}
				o.say(run, "return")
			}
			_ = run.Get(t.Context(), nil) // it may have failed
			replay(t, o.history(run))
		})
	}
}

// newest is the workflow's newest run.
type newest struct{ client.WorkflowRun }

func (newest) GetRunID() string { return "" }

// What is refused says why, and leaves no trace.
func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run := o.start()
	s := o.state(run)
	refused := func(w any, kind, text string) {
		t.Helper()
		h, err := o.client.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
			WorkflowID: run.GetID(), UpdateName: handlers.Update, Args: []any{w}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err == nil {
			err = h.Get(t.Context(), nil)
		}
		var refusal *temporal.ApplicationError
		if !errors.As(err, &refusal) || kind != "" && refusal.Type() != kind || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: the error is %v, want %s with %q", w, err, kind, text)
		}
	}
	refused(handlers.Wait{Started: -1}, handlers.RefusedInput, "-1")
	refused(handlers.Wait{Started: s.Started, Version: -7}, handlers.RefusedInput, "-7")
	refused(handlers.Wait{Started: s.Started + 1, Version: 7}, handlers.RefusedReset, "query it")
	refused("soon", "", "decode")
	accepted := 0
	for range handlers.DefaultMaxWaiting {
		if _, err := o.next(run, handlers.Wait{Started: s.Started, Version: 1}); err != nil {
			t.Fatal(err)
		}
		accepted++
	}
	refused(handlers.Wait{Started: s.Started, Version: 1}, handlers.RefusedWaiting, "8 wait already")
	for _, e := range o.history(run).Events {
		if e.EventType == enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED {
			accepted--
		}
	}
	if accepted != 0 {
		t.Errorf("the history has %d accepted updates too few", accepted)
	}
	o.say(run, "return")
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// Signals that make no sense do no harm.
func TestBadSubscriptions(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run := o.start()
	for _, bad := range []any{"nonsense", 42, handlers.Subscription{}, handlers.Subscription{ID: "a", URL: strings.Repeat("x", 10_000)},
		handlers.Subscription{ID: "a", URL: "https://example.com", Until: time.Unix(1, 0)}} {
		for _, name := range []string{handlers.Subscribe, handlers.Unsubscribe} {
			if err := o.client.SignalWorkflow(t.Context(), run.GetID(), "", name, bad); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.say(run, "one")
	o.say(run, "return")
	if err := run.Get(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for _, e := range o.history(run).Events {
		if e.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED {
			t.Errorf("a task has failed: %v", e)
		}
	}
}

// A worker that cannot notify leaves nothing in the history that one that can
// would not: it gets the activity while runs are open.
func TestNotifyIsNotRegistered(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	run := o.start()
	if err := o.client.SignalWorkflow(t.Context(), run.GetID(), "", handlers.Subscribe, handlers.Subscription{ID: "a", URL: "https://example.com"}); err != nil {
		t.Fatal(err)
	}
	for n, text := range []string{"one", "two"} {
		o.say(run, text)
		if s := o.state(run); s.Version != int64(n+2) {
			t.Fatalf("behind %q the state is %+v", text, s)
		}
	}
	// A replayer takes all activities for registered.
	replay(t, o.history(run))
	o.say(run, "return")
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
