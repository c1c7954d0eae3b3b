package strategy_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// updates counts the events of the workflow's newest run's history that are
// of updates.
func (w *world) updates(id string) (accepted, completed int) {
	w.t.Helper()
	for _, e := range w.history(id) {
		switch e.EventType {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
			accepted++
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
			completed++
			if f := e.GetWorkflowExecutionUpdateCompletedEventAttributes().GetOutcome().GetFailure(); f != nil {
				w.t.Errorf("an update has failed: %v", f)
			}
		}
	}
	return accepted, completed
}

func updateArm(o strategy.UpdateOptions) arm {
	o.CallOptions, o.ProbeEvery = fast, 5*time.Second
	o.Degraded.Max = time.Second
	return arm{name: strategy.Update, make: func(w *world) strategy.Strategy { return strategy.NewUpdate(w.theirs, o) }}
}

// degraded counts the viewer's notices of that kind, each once: on a busy
// machine there may be others, and it comes again behind them.
func degraded(v *viewer) int {
	seen := map[*strategy.Notice]bool{}
	for _, notice := range v.notices {
		if notice.Kind == strategy.Degraded {
			seen[notice] = true
		}
	}
	return len(seen)
}

// However many wait, on however many nodes, one update is in flight, and the
// run takes one for each change.
func TestOneUpdateForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, updateArm(strategy.UpdateOptions{}))
	w.worker()
	id := w.start("Commanded")
	nodes := []strategy.Strategy{w.strategy, w.arm.make(w)}
	var viewers []*viewer
	for n := range 30 {
		w.strategy = nodes[n%2]
		viewers = append(viewers, w.watch(id, progress.Position{}))
	}
	// A change that comes before the first state is not waited for.
	for _, v := range viewers {
		v.until("the first state", func(progress.Event) bool { return true })
	}
	const changes = 4
	for n := range int64(changes) {
		w.signal(id, "do", command{Count: n + 1})
		for _, v := range viewers {
			v.until("the count", counted(n+1))
		}
	}
	w.signal(id, "do", command{Return: "complete"})
	for _, v := range viewers {
		v.closed()
		if degraded(v) > 0 {
			t.Errorf("the notices are %v", v.notices)
		}
	}
	// One for each change, and one that Finish lets go.
	if accepted, completed := w.updates(id); accepted != completed || accepted < changes || accepted > changes+1 {
		t.Errorf("%d updates accepted, %d completed, for %d changes", accepted, completed, changes)
	}
}

// own has the run take an update of its own, and waits until it has.
func (w *world) own(id string, hold bool, until client.WorkflowUpdateStage) client.WorkflowUpdateHandle {
	w.t.Helper()
	u, err := w.client.UpdateWorkflow(w.t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: "own", Args: []any{hold}, WaitForStage: until,
	})
	if err != nil {
		w.t.Fatalf("the run's own update was refused: %v", err)
	}
	return u
}

// More than a run lets wait at a time go on by polling, and say so, and no
// others; the run's own updates have their room.
func TestTooManyWaiting(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		max  int
		// places is how many wait.
		places int
	}{{"the run's limit", 0, handlers.DefaultMaxWaiting}, {"the server's limit", 100, 10}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const watches, changes = 15, 3
			// Whoever has degraded stays so: a try would take another's place.
			w := newWorld(t, updateArm(strategy.UpdateOptions{PerWatch: true, TryAgain: time.Hour}))
			w.worker()
			id := w.start("Limited", handlers.Options{MaxWaiting: tt.max})
			var viewers []*viewer
			for range watches {
				viewers = append(viewers, w.watch(id, progress.Position{}))
			}
			eventually(t, "room for as many as may wait", func() bool {
				accepted, _ := w.updates(id)
				return accepted == tt.places && w.calls.count("UpdateWorkflowExecution") >= watches
			})
			if tt.max == 0 {
				if err := w.own(id, false, client.WorkflowUpdateStageCompleted).Get(t.Context(), nil); err != nil {
					t.Errorf("the run's own update has failed: %v", err)
				}
				if accepted, completed := w.updates(id); accepted != tt.places+1 || completed != 1 {
					t.Errorf("meanwhile %d updates were accepted and %d completed", accepted, completed)
				}
			}
			for n := range int64(changes) {
				w.signal(id, "do", command{Count: n + 1})
				for _, v := range viewers {
					v.until("the count", counted(n+1))
				}
			}
			w.signal(id, "do", command{Return: "complete"})
			polled := 0
			for _, v := range viewers {
				v.closed()
				if degraded(v) > 0 {
					polled++
				}
			}
			if polled != watches-tt.places {
				t.Errorf("%d of %d have degraded, though %d may wait", polled, watches, tt.places)
			}
		})
	}
}

// A run that takes no update for a moment is polled for as long, and followed
// by updates behind it.
func TestRefusedForAMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, updateArm(strategy.UpdateOptions{TryAgain: time.Second}))
	w.worker()
	v := w.follow("Limited", handlers.Options{})
	events := v.counts(1)
	own := w.own(v.id, true, client.WorkflowUpdateStageAccepted)
	w.signal(v.id, "do", command{Count: 2, Settle: true})
	lesser, more := v.notice(strategy.Degraded)
	events = append(events, more...)
	if strings.Contains(lesser.Reason, "until the next run") || !strings.Contains(lesser.Error(), "waits for its own updates") {
		t.Errorf("the notice is %v", lesser)
	}
	tried := w.calls.count("UpdateWorkflowExecution")
	eventually(t, "second try", func() bool { return w.calls.count("UpdateWorkflowExecution") >= tried+2 })
	w.signal(v.id, "release", nil)
	if err := own.Get(t.Context(), nil); err != nil {
		t.Error(err)
	}
	// On a busy machine it may be stale for a while as well, which ends so, too.
	for live := false; !live; {
		n, more := v.notice(strategy.Live)
		events = append(events, more...)
		live = strings.Contains(n.Reason, "takes updates again")
	}
	if n := slices.ContainsFunc(v.notices, func(n *strategy.Notice) bool { return n.Kind == strategy.Degraded && n != lesser }); n {
		t.Errorf("it was told again: %v", v.notices)
	}
	v.notices = nil
	before, _ := w.updates(v.id)
	if last := events[len(events)-1]; !counted(2)(last) {
		events = append(events, v.until("the count", counted(2))...)
	}
	const changes = 10
	for n := range int64(changes) {
		events = append(events, v.counts(n+3)...)
	}
	// A look that comes by then may see a change first.
	if after, _ := w.updates(v.id); after-before < changes/2 || degraded(v) > 0 {
		t.Errorf("%d changes came by %d updates; the notices are %v", changes, after-before, v.notices)
	}
	events = append(events, v.returns("complete")...)
	rising(t, events)
	if end := events[len(events)-1]; end.Status != progress.StatusCompleted || end.Error != "" {
		t.Errorf("the end is %+v", end)
	}
	w.nothingOpen()
}

// A run that has taken all the updates that it may is polled; the next run
// takes updates again.
func TestRunOutOfUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, updateArm(strategy.UpdateOptions{}))
	w.worker()
	v := w.follow("Limited", handlers.Options{MaxUpdates: 3})
	var events []progress.Event
	for n := range int64(6) {
		events = append(events, v.counts(n+1)...)
	}
	if degraded(v) != 1 || !slices.ContainsFunc(v.notices, func(n *strategy.Notice) bool { return strings.Contains(n.Error(), "3 updates") }) {
		t.Errorf("the notices are %v", v.notices)
	}
	if accepted, _ := w.updates(v.id); accepted != 3 {
		t.Errorf("the run has taken %d updates", accepted)
	}
	run := events[len(events)-1].RunID
	w.signal(v.id, "do", command{Return: "continue"})
	events = append(events, v.until("the next run", func(e progress.Event) bool { return e.RunID != run })...)
	before := w.calls.count("UpdateWorkflowExecution")
	events = append(events, v.counts(7)...)
	events = append(events, v.returns("complete")...)
	rising(t, events)
	if w.calls.count("UpdateWorkflowExecution") <= before {
		t.Error("the next run was not asked for updates")
	}
}

// A run that continues as new when it is advised to is followed by updates all
// the time.
func TestContinuesInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, updateArm(strategy.UpdateOptions{}))
	w.worker()
	v := w.follow("Limited", handlers.Options{MaxUpdates: 5})
	runs := map[string]bool{}
	var events []progress.Event
	for n := range int64(12) {
		events = append(events, v.counts(n+1)...)
		e := events[len(events)-1]
		runs[e.RunID] = true
		if n%4 == 3 {
			w.signal(v.id, "do", command{Return: "advised"})
			events = append(events, v.until("the next run", func(next progress.Event) bool { return next.RunID != e.RunID })...)
		}
	}
	events = append(events, v.returns("complete")...)
	rising(t, events)
	if len(runs) != 3 || degraded(v) != 0 {
		t.Errorf("%d runs; notices %v", len(runs), v.notices)
	}
	if end := events[len(events)-1]; end.Status != progress.StatusCompleted {
		t.Errorf("the end is %+v", end)
	}
}

// Temporal takes 2,000 updates of a run in all, whoever sends them, and says
// in time that the run should continue as new.
func TestServersBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes 2,000 updates")
	}
	t.Parallel()
	w := newWorld(t, updateArm(strategy.UpdateOptions{}))
	w.worker()
	id := w.start("Limited", handlers.Options{MaxUpdates: 10_000})
	var senders sync.WaitGroup
	for sender := range 8 {
		senders.Go(func() {
			for n := range 2000 / 8 {
				_, err := w.client.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
					WorkflowID: id, UpdateID: fmt.Sprint("own-", sender, "-", n), UpdateName: handlers.Update,
					Args: []any{handlers.Wait{}}, WaitForStage: client.WorkflowUpdateStageCompleted,
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	v := w.watch(id, progress.Position{})
	n, _ := v.notice(strategy.Degraded)
	if !strings.Contains(n.Error(), "2000") || !strings.Contains(n.Reason, "until the next run") {
		t.Errorf("the notice is %v", n)
	}
	events := v.counts(1)
	// By now Temporal has advised the run to continue as new, and the next one
	// takes updates again.
	run := events[len(events)-1].RunID
	w.signal(id, "do", command{Return: "advised"})
	v.until("the next run", func(e progress.Event) bool { return e.RunID != run })
	before := w.calls.count("UpdateWorkflowExecution")
	v.counts(2)
	v.returns("complete")
	if w.calls.count("UpdateWorkflowExecution") <= before {
		t.Error("the next run was not asked for updates")
	}
}
