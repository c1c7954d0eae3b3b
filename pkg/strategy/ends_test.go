package strategy_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	commonpb "go.temporal.io/api/common/v1"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// A server that has no room for the last calls is asked again: nobody asks
// later.
func TestTheLastStateOfABusyServer(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		v.counts(1)
		stop := atomic.Bool{}
		var refused [2]atomic.Int32
		w.calls.failWith(func(method string) error {
			n := 0
			switch {
			case !stop.Load():
				return nil
			case method == "QueryWorkflow":
			case method == "GetWorkflowExecutionHistory":
				n = 1
			default:
				return nil
			}
			if refused[n].Add(1) > 2 {
				return nil
			}
			return serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "namespace rate limit exceeded")
		})
		stop.Store(true)
		if err := w.client.TerminateWorkflow(t.Context(), v.id, "", "the test says so"); err != nil {
			t.Fatal(err)
		}
		// Who comes now has to ask for all of it.
		late := w.watch(v.id, progress.Position{})
		for who, events := range map[string][]progress.Event{"live": v.closed(), "late": late.closed()} {
			end := events[len(events)-1]
			if end.Status != progress.StatusTerminated || end.Error != "the test says so" {
				t.Errorf("%s: the end is %+v", who, end)
			}
			if who == "late" && (len(events) != 2 || !counted(1)(events[0])) {
				t.Errorf("who comes late gets %s", list(events))
			}
		}
		if refused[0].Load() == 0 || refused[1].Load() == 0 {
			t.Errorf("%d and %d calls were made", refused[0].Load(), refused[1].Load())
		}
	})
}

// Who comes behind the end of a run that has failed gets nothing before all of
// it is known: the last state alone would look as if the run went on.
func TestLateToAFailedRun(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		v.counts(1)
		v.returns("fail")
		var events []progress.Event
		// A worker that takes long leaves the end alone.
		eventually(t, "last state", func() bool {
			w.calls.reset()
			events = nil
			for e, err := range w.strategy.Watch(t.Context(), v.id, progress.Position{}) {
				if err != nil {
					t.Fatal(err)
				}
				if w.calls.count("GetWorkflowExecutionHistory") == 0 {
					t.Errorf("%s comes before its reason", list([]progress.Event{e}))
				}
				events = append(events, e)
			}
			return len(events) > 1
		})
		if len(events) != 2 || !counted(1)(events[0]) || events[1].Status != progress.StatusFailed || events[1].Error == "" {
			t.Errorf("there came %s", list(events))
		}
	})
}

// A run ends in more ways than by its own return.
func TestEndsFromOutside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		how     string
		timeout time.Duration
		status  progress.Status
		end     func(w *world, id string) error
	}{
		{"cancel", 0, progress.StatusCanceled, func(w *world, id string) error { return w.client.CancelWorkflow(w.t.Context(), id, "") }},
		{"time out", 3 * time.Second, progress.StatusTimedOut, func(*world, string) error { return nil }},
	} {
		t.Run(tt.how, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, w *world) {
				w.reconciledWorker()
				id := "wf-" + testenv.Prefix(t)
				o := client.StartWorkflowOptions{ID: id, TaskQueue: w.queue, WorkflowExecutionTimeout: tt.timeout}
				if _, err := w.client.ExecuteWorkflow(t.Context(), o, "Canceled"); err != nil {
					t.Fatal(err)
				}
				v := w.watch(id, progress.Position{})
				events := v.until("the count", counted(1))
				if err := tt.end(w, id); err != nil {
					t.Fatal(err)
				}
				events = append(events, v.closed()...)
				rising(t, events)
				if end := events[len(events)-1]; end.Status != tt.status {
					t.Errorf("the end is %+v, want %s", end, tt.status)
				}
			})
		})
	}
}

// A run that Temporal has forgotten has ended; how is not known.
func TestForgottenRun(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		events := v.counts(1)
		_, err := w.client.WorkflowService().DeleteWorkflowExecution(t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
			Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: v.id},
		})
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, v.closed()...)
		rising(t, events)
		// It is terminated first: who looks in between sees that.
		if end := events[len(events)-1]; end.Status != progress.StatusUnknown && end.Status != progress.StatusTerminated {
			t.Errorf("the end is %+v", end)
		}
		w.nothingOpen()
	})
}

// A call that is under way ends with who waits for it. It runs alone: it looks
// at all goroutines.
func TestNoCallIsLeft(t *testing.T) {
	for _, a := range arms {
		if !asksTemporal(a) {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t, a)
			w.worker()
			v := w.follow("Commanded")
			v.counts(1)
			w.calls.holdAll()
			w.signal(v.id, "do", command{Count: 2})
			eventually(t, "call under way", func() bool { return w.calls.opened() > 0 })
			v.cancel()
			w.nothingLeft()
		})
	}
}

// A worker that comes late is waited for, by who was there before it.
func TestWorkerComesLate(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		v := w.follow("Commanded")
		n, events := v.notice(strategy.Stale)
		if n.Since.IsZero() || len(events) > 0 {
			t.Errorf("since %v; before came %s", n.Since, list(events))
		}
		w.worker()
		events = v.counts(1)
		events = append(events, v.returns("complete")...)
		rising(t, events)
	})
}

// A run that has yet to begin, since its start is delayed, or it is tried again
// or repeated later, is said to wait: nothing is wrong with Temporal.
func TestRunThatHasNotBegun(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		w.worker()
		id := "wf-" + testenv.Prefix(t)
		o := client.StartWorkflowOptions{ID: id, TaskQueue: w.queue, StartDelay: 6 * time.Second}
		if _, err := w.client.ExecuteWorkflow(t.Context(), o, "Commanded"); err != nil {
			t.Fatal(err)
		}
		v := w.watch(id, progress.Position{})
		if n, _ := v.notice(strategy.Stale); !strings.Contains(n.Reason, "waits for its start") {
			t.Errorf("the notice is %v", n)
		}
		v.counts(1)
	})
}
