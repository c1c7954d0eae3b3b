package strategy_test

import (
	"slices"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// smallLimits are those of a server that soon has too much to do: all in a
// namespace may make four calls a second together, and no more at once. A
// worker's polls wait in the server for that, not in the SDK, which would let
// ten seconds pass. The server's own workers in each namespace would take of it
// as well.
var smallLimits = []string{
	"--dynamic-config-value=frontend.namespaceRPS=4",
	"--dynamic-config-value=frontend.namespaceBurstRatio=1",
	"--dynamic-config-value=system.pollWaitForNamespaceRateLimitToken=true",
	"--dynamic-config-value=worker.perNamespaceWorkerCount=0",
}

// hurried are the strategies that ask Temporal, each so that its viewers ask
// for more than that.
var hurried = []struct {
	viewers int
	arm
}{
	{1, arm{name: strategy.Poll, make: func(w *world) strategy.Strategy {
		return strategy.NewPoll(w.theirs, strategy.PollOptions{CallOptions: in(w), Every: 20 * time.Millisecond})
	}}},
	{1, arm{name: strategy.Adaptive, make: func(w *world) strategy.Strategy {
		return strategy.NewAdaptive(w.theirs, strategy.AdaptiveOptions{CallOptions: in(w), Min: 20 * time.Millisecond, Max: time.Second})
	}}},
	{2, arm{name: strategy.Update, make: func(w *world) strategy.Strategy {
		return strategy.NewUpdate(w.theirs, strategy.UpdateOptions{CallOptions: in(w)})
	}}},
	{4, arm{name: strategy.Signal, register: deliver, make: func(w *world) strategy.Strategy {
		return strategy.NewSignal(w.theirs, receiver(w), strategy.SubscribeOptions{CallOptions: in(w), FirstWait: within})
	}}},
	{4, arm{name: strategy.Push, register: deliver, make: func(w *world) strategy.Strategy {
		return strategy.NewPush(w.theirs, receiver(w), strategy.SubscribeOptions{CallOptions: in(w), FirstWait: within})
	}}},
}

func in(w *world) strategy.CallOptions { return strategy.CallOptions{Namespace: w.namespace} }

// A real server that refuses calls for its own limits is asked less often, and
// the run is followed to its end all the same.
func TestServerOfSmallLimits(t *testing.T) {
	t.Parallel()
	addr := testenv.TemporalServer(t, smallLimits...)
	for _, tt := range hurried {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, tt.arm, addr, newNamespace(t, addr, tt.name))
			followed(w, tt.viewers, func() bool { n, _ := w.calls.refusals(); return n > 0 })
			refused, soonest := w.calls.refusals()
			t.Logf("%d of %d calls were refused, and made again after %v at least", refused, w.calls.total(), soonest)
			if refused == 0 {
				t.Error("no call was refused")
			}
			// The least pause is 0.2 s, or a fifth less; 0: it has asked otherwise.
			if soonest != 0 && soonest < 160*time.Millisecond {
				t.Errorf("it has asked again after %v", soonest)
			}
		})
	}
}

// followed has so many follow a run of a few changes to its end, each for
// itself, and of some more until it is enough.
func followed(w *world, viewers int, enough func() bool) {
	w.t.Helper()
	w.worker()
	id := w.start("Commanded")
	all := make([]*viewer, viewers)
	for i := range all {
		all[i] = w.watch(id, progress.Position{})
	}
	events := make([][]progress.Event, viewers)
	for n := int64(0); n < 4 || n < 20 && !enough(); n++ {
		w.signal(id, "do", command{Count: n + 1})
		for i, v := range all {
			events[i] = append(events[i], v.until("the count", counted(n+1))...)
		}
	}
	w.signal(id, "do", command{Return: "complete"})
	for i, v := range all {
		events[i] = append(events[i], v.closed()...)
	}
	for _, events := range events {
		rising(w.t, events)
		ends := slices.DeleteFunc(slices.Clone(events), func(e progress.Event) bool { return e.Type != progress.TypeClosed })
		if len(ends) != 1 || ends[0].Status != progress.StatusCompleted {
			w.t.Errorf("the ends are %s", list(ends))
		}
	}
}

// newNamespace makes one, which has limits of its own.
func newNamespace(t *testing.T, addr, name string) string {
	t.Helper()
	c := testenv.TemporalAt(t, addr, client.Options{Logger: quiet()})
	_, err := c.WorkflowService().RegisterNamespace(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	// The server's parts learn of it one by one.
	eventually(t, "namespace "+name, func() bool {
		_, err := c.WorkflowService().ListOpenWorkflowExecutions(t.Context(), &workflowservice.ListOpenWorkflowExecutionsRequest{Namespace: name, MaximumPageSize: 1})
		return err == nil
	})
	return name
}
