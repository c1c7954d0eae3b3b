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

// More than a run lets wait at a time go on by polling, and say so; the run's
// own updates have their room.
func TestTooManyWaiting(t *testing.T) {
	t.Parallel()
	for name, max := range map[string]int{"the run's limit": 0, "the server's limit": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, updateArm(strategy.UpdateOptions{PerWatch: true}))
			w.worker()
			id := w.start("Limited", handlers.Options{MaxWaiting: max})
			var viewers []*viewer
			for range 15 {
				viewers = append(viewers, w.watch(id, progress.Position{}))
			}
			for n := range int64(3) {
				w.signal(id, "do", command{Count: n + 1})
				for _, v := range viewers {
					v.until("the count", counted(n+1))
				}
			}
			w.signal(id, "do", command{Return: "complete"})
			n := 0
			for _, v := range viewers {
				v.closed()
				n += degraded(v)
			}
			if n < 15-10 || n > 15 {
				t.Errorf("%d of 15 have degraded", n)
			}
		})
	}
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
	if !strings.Contains(n.Error(), "2000") {
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
