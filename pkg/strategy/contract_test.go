package strategy_test

import (
	"slices"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// arm is one strategy in the suite. A new one joins with a row in [arms], and
// all tests that call [each] run for it, each with a worker that has the
// plugin: make the strategy on w.theirs, whose calls are counted, name in uses
// the methods that make it what it is, and register what its workers need. A
// receiver of its deliveries is started in make and stopped by w.t.Cleanup.
type arm struct {
	name string
	// make returns the strategy, which calls Temporal by w.theirs only. What
	// it starts is stopped by w.t.Cleanup.
	make func(w *world) strategy.Strategy
	// register adds activities to the workers; nil: there are none.
	register func(w *world, r worker.Registry)
	// uses are the methods of Temporal that tell it of changes: it must call
	// all of them. Beside them it may call those in may, and of [anybody].
	uses, may []string
	// redis says that there is a Redis. The others have none in the process.
	redis bool
	// needs names the handlers that it cannot do without: each is looked for
	// in the error where it is missing. None: it follows all workflows.
	needs string
	// quiet says that it does not notice that a worker is away.
	quiet bool
}

// anybody may describe, query once in a while, and ask how a run ended.
var anybody = []string{"DescribeWorkflowExecution", "QueryWorkflow", "GetWorkflowExecutionHistory"}

var arms = []arm{
	{
		name: strategy.Poll, uses: []string{"DescribeWorkflowExecution", "QueryWorkflow"}, needs: handlers.Query,
		make: func(w *world) strategy.Strategy {
			return strategy.NewPoll(w.theirs, strategy.PollOptions{CallOptions: fast})
		},
	},
	{
		name: strategy.Adaptive, uses: []string{"DescribeWorkflowExecution", "QueryWorkflow"}, needs: handlers.Query,
		make: func(w *world) strategy.Strategy {
			return strategy.NewAdaptive(w.theirs, strategy.AdaptiveOptions{CallOptions: fast, Max: time.Second})
		},
	},
	{
		name: strategy.Update, uses: []string{"UpdateWorkflowExecution"}, may: []string{"PollWorkflowExecutionUpdate"}, needs: handlers.Update,
		make: func(w *world) strategy.Strategy {
			return strategy.NewUpdate(w.theirs, strategy.UpdateOptions{CallOptions: fast, ProbeEvery: 2 * time.Second})
		},
	},
	{
		name: strategy.Redis, redis: true, quiet: true,
		make: func(w *world) strategy.Strategy {
			p := strategy.NewRedis(w.store, strategy.RedisOptions{CallOptions: fast, Temporal: w.theirs, CheckEvery: time.Second})
			w.t.Cleanup(func() { p.Close() })
			return p
		},
	},
}

// fast makes a worker that is away show sooner than by default.
var fast = strategy.CallOptions{Timeout: time.Second}

// each runs a test of the suite for each strategy.
func each(t *testing.T, f func(t *testing.T, w *world)) { eachThat(t, always, f) }

// eachThat does for those that are so.
func eachThat(t *testing.T, so func(arm) bool, f func(t *testing.T, w *world)) {
	eachArm(t, so, func(t *testing.T, a arm) { f(t, newWorld(t, a)) })
}

// eachArm leaves it to the test to make the world, from the arm or a changed
// one.
func eachArm(t *testing.T, so func(arm) bool, f func(t *testing.T, a arm)) {
	for _, a := range arms {
		if so(a) {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				f(t, a)
			})
		}
	}
}

func always(arm) bool { return true }

// needsHandlers, asksTemporal and isTold name the arms of a test: the last are
// those with a call by which changes come, beside the describe.
func needsHandlers(a arm) bool { return a.needs != "" }
func asksTemporal(a arm) bool  { return len(a.uses) > 0 }
func isTold(a arm) bool        { return asksTemporal(a) && a.uses[0] != "DescribeWorkflowExecution" }

func counted(n int64) func(progress.Event) bool {
	return func(e progress.Event) bool { return e.Current != nil && *e.Current == n }
}

func TestProgressComesInOrderAndEndsOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		var events []progress.Event
		for n := range int64(5) {
			events = append(events, v.counts(n+1)...)
		}
		events = append(events, v.returns("complete")...)
		rising(t, events)
		end := events[len(events)-1]
		if end.Status != progress.StatusCompleted || end.Error != "" || end.WorkflowID != v.id || end.RunID == "" || end.Chain == "" || end.Time.IsZero() {
			t.Errorf("the end is %+v", end)
		}
		w.nothingOpen()
		w.onlyItsOwnMethods()
	})
}

// onlyItsOwnMethods fails unless the strategy has called what makes it what it
// is, and nothing else. How often, TestEachFollowsInItsOwnManner sees.
func (w *world) onlyItsOwnMethods() {
	w.t.Helper()
	called, total := w.calls.methods(), 0
	for _, m := range called {
		total += w.calls.count(m)
	}
	if len(w.arm.uses) == 0 && total > 1 {
		w.t.Errorf("%s has made %d calls, of %q", w.arm.name, total, called)
	}
	for _, m := range w.arm.uses {
		if !slices.Contains(called, m) {
			w.t.Errorf("%s has not called %s, but %q", w.arm.name, m, called)
		}
	}
	for _, m := range called {
		if !slices.Contains(slices.Concat(w.arm.uses, w.arm.may, anybody), m) {
			w.t.Errorf("%s has called %s", w.arm.name, m)
		}
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		how    string
		status progress.Status
		text   string
		end    func(w *world, id string) error
	}{
		{"complete", progress.StatusCompleted, "", nil},
		{"fail", progress.StatusFailed, "the oven is cold", nil},
		{"terminate", progress.StatusTerminated, "the test says so", func(w *world, id string) error {
			return w.client.TerminateWorkflow(w.t.Context(), id, "", "the test says so")
		}},
	} {
		t.Run(tt.how, func(t *testing.T) {
			each(t, func(t *testing.T, w *world) {
				w.reconciledWorker()
				live := w.follow("Commanded")
				id, events := live.id, live.counts(7)
				if tt.end == nil {
					events = append(events, live.returns(tt.how)...)
				} else {
					if err := tt.end(w, id); err != nil {
						t.Fatal(err)
					}
					events = append(events, live.closed()...)
				}
				rising(t, events)
				check := func(who string, events []progress.Event) {
					end := events[len(events)-1]
					if end.Status != tt.status || end.Error != tt.text {
						t.Errorf("%s: the end is %q %q, want %q %q", who, end.Status, end.Error, tt.status, tt.text)
					}
				}
				check("live", events)

				// Who comes later gets the last state and the same end.
				late := w.watch(id, progress.Position{}).closed()
				check("late", late)
				rising(t, late)
				if !slices.ContainsFunc(late, counted(7)) {
					t.Errorf("who comes late gets no state: %s", list(late))
				}
				if a, b := events[len(events)-1].Position(), late[len(late)-1].Position(); a != b {
					t.Errorf("the end is at %v for who was there, at %v for who comes late", a, b)
				}
				// Who has the end gets nothing.
				if g, more := w.watch(id, events[len(events)-1].Position()).next(); more {
					t.Errorf("behind the end comes %+v, %v", g.event, g.err)
				}
			})
		})
	}
}

// A run that has closed can be told even where no worker is left.
func TestClosedRunWithoutAWorker(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		stop := w.worker()
		v := w.follow("Commanded")
		w.signal(v.id, "do", command{Count: 7})
		v.returns("fail")
		stop()
		events := w.watch(v.id, progress.Position{}).closed()
		if end := events[len(events)-1]; end.Status != progress.StatusFailed || end.Error != "the oven is cold" {
			t.Errorf("the end is %+v", end)
		}
	})
}

func TestContinueAsNew(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		var events []progress.Event
		for n := range int64(3) {
			events = append(events, v.counts(n+1)...)
			if n == 2 {
				w.signal(v.id, "do", command{Return: "complete"})
				break
			}
			w.signal(v.id, "do", command{Return: "continue"})
			before := events[len(events)-1].RunID
			events = append(events, v.until("the next run", func(e progress.Event) bool { return e.RunID != before })...)
		}
		events = append(events, v.closed()...)
		rising(t, events)
		runs, chains := map[string]bool{}, map[string]bool{}
		for _, e := range events {
			runs[e.RunID], chains[e.Chain] = true, true
		}
		if len(runs) != 3 || len(chains) != 1 {
			t.Errorf("%d runs of %d chains, want 3 of 1: %s", len(runs), len(chains), list(events))
		}
	})
}

// A later chain under the same ID is no part of a sequence that follows the
// one before, and is reached by who comes with its end.
func TestTwoChains(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		v.counts(1)
		first := v.returns("fail")
		end := first[len(first)-1]
		w.startAs(v.id, "Commanded")
		w.signal(v.id, "do", command{Count: 2})
		if w.store != nil {
			// The new chain shows where its events are.
			eventually(t, "new chain", func() bool {
				s, err := w.store.Snapshot(t.Context(), v.id)
				return err == nil && s.Chain != end.Chain
			})
		}
		v = w.watch(v.id, end.Position())
		events := v.until("the count", counted(2))
		events = append(events, v.returns("complete")...)
		rising(t, append(first, events...))
		if last := events[len(events)-1]; last.Status != progress.StatusCompleted || last.Chain == end.Chain {
			t.Errorf("the second end is %+v", last)
		}
	})
}

// A reset goes on with a run whose history begins like the one before: it
// must not be taken for that.
func TestReset(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		var events []progress.Event
		for n := range int64(3) {
			events = append(events, v.counts(n+1)...)
		}
		before := events[len(events)-1].RunID
		_, err := w.client.ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
			Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: v.id},
			WorkflowTaskFinishEventId: 4, RequestId: v.id, Reason: "the test says so",
			ResetReapplyExcludeTypes: []enumspb.ResetReapplyExcludeType{enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL},
		})
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, v.counts(9)...)
		if e := events[len(events)-1]; e.RunID == before {
			t.Errorf("the run is still %s", before)
		}
		events = append(events, v.returns("complete")...)
		rising(t, events)
	})
}

func TestResume(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		var at progress.Position
		for n := range int64(4) {
			events := v.counts(n + 1)
			if n == 1 {
				at = events[len(events)-1].Position()
			}
		}
		second := w.watch(v.id, at)
		events := second.until("the count", counted(4))
		for _, e := range events {
			if e.Epoch == at.Epoch && e.Seq <= at.Seq {
				t.Errorf("%v comes again behind %v", e.Position(), at)
			}
		}
		// A position that never was is no reason to wait for it.
		future := at
		future.Seq += 1_000_000
		w.watch(v.id, future).until("the count", counted(4))
	})
}
