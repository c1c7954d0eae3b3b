package handlers_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// pushed keeps what was pushed, by subscriber.
type pushed struct {
	mu sync.Mutex
	to map[string][]handlers.State
}

func (p *pushed) push(_ context.Context, d handlers.Delivery) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to[d.Subscription.ID] = append(p.to[d.Subscription.ID], d.State)
	return nil
}

// any reports whether one that was pushed to a subscriber is so.
func (p *pushed) any(id string, ok func(handlers.State) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.to[id] {
		if ok(s) {
			return true
		}
	}
	return false
}

// Who subscribes or unsubscribes in the very task in which a run continues as
// new, or returns, has done so.
func TestSubscriptionsOfTheLastTask(t *testing.T) {
	t.Parallel()
	c := testenv.TemporalWith(t, client.Options{})
	queue := "queue-" + testenv.Prefix(t)
	held, release := make(chan struct{}, 1), make(chan struct{})
	// hands continues as new, by hand, or returns when it is told; "hold" keeps
	// its task, so that what is signaled meanwhile comes in the next. It keeps no
	// replay of it, which another test asks of all runs of the process.
	hands := func(ctx workflow.Context, carried *commonpb.Payload) error {
		h, err := handlers.Install(ctx, handlers.Options{Carried: carried})
		if err != nil {
			return err
		}
		for {
			var text string
			workflow.GetSignalChannel(ctx, "say").Receive(ctx, &text)
			switch text {
			case "hold":
				if !workflow.IsReplaying(ctx) {
					held <- struct{}{}
					<-release
				}
				continue
			case "continue":
				err = workflow.NewContinueAsNewError(ctx, "Hands", h.Carry(ctx))
			}
			h.Finish(ctx, handlers.StatusOf(err))
			return err
		}
	}
	told := &pushed{to: map[string][]handlers.State{}}
	w := worker.New(c, queue, worker.Options{DeadlockDetectionTimeout: time.Minute})
	w.RegisterWorkflowWithOptions(hands, workflow.RegisterOptions{Name: "Hands"})
	w.RegisterActivityWithOptions(told.push, activity.RegisterOptions{Name: handlers.PushActivity})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: queue, TaskQueue: queue, WorkflowTaskTimeout: time.Minute, // a task that is held is not to come again
	}, "Hands", nil)
	if err != nil {
		t.Fatal(err)
	}
	signal := func(name string, arg any) {
		t.Helper()
		if err := c.SignalWorkflow(ctx, run.GetID(), "", name, arg); err != nil {
			t.Fatal(err)
		}
	}
	sub := func(id string) handlers.Subscription {
		return handlers.Subscription{ID: id, URL: "https://example.com", Push: true}
	}
	hold := func() {
		t.Helper()
		signal("say", "hold")
		select {
		case <-held:
		case <-ctx.Done():
			t.Fatal("no task is held")
		}
	}
	letGo := func() {
		t.Helper()
		select {
		case release <- struct{}{}:
		case <-ctx.Done():
			t.Fatal("no task is held any more")
		}
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("there is no %s", what)
			}
		}
	}
	anything := func(handlers.State) bool { return true }
	first := run.GetRunID()
	next := func(s handlers.State) bool { return s.RunID != first }
	ended := func(s handlers.State) bool { return s.Returned == progress.StatusCompleted }

	signal(handlers.Subscribe, sub("goes"))
	eventually("first push", func() bool { return told.any("goes", anything) })
	hold()
	signal(handlers.Subscribe, sub("early"))
	signal(handlers.Unsubscribe, sub("goes"))
	signal(handlers.Subscribe, sub("late"))
	signal("say", "continue")
	letGo()
	for _, id := range []string{"early", "late"} {
		eventually("push of the next run to "+id, func() bool { return told.any(id, next) })
		if told.any(id, func(s handlers.State) bool { return !next(s) }) {
			t.Errorf("%s was told by a run that had continued", id)
		}
	}
	hold()
	signal(handlers.Unsubscribe, sub("early"))
	signal("say", "return")
	letGo()
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if told.any("goes", next) || told.any("early", ended) || !told.any("late", ended) {
		t.Errorf("they were told %+v", told.to)
	}
}

// The advice comes with Temporal's, or when a budget of the handlers is
// nearly spent.
func TestContinueAsNewAdvised(t *testing.T) {
	asked := func(ctx workflow.Context, most int) (list []bool, err error) {
		h, err := handlers.Install(ctx, handlers.Options{MaxUpdates: most})
		if err != nil {
			return nil, err
		}
		c := workflow.GetSignalChannel(ctx, "say")
		for c.Receive(ctx, nil); ; c.Receive(ctx, nil) {
			in, bare := handlers.ContinueAsNewAdvised(handlers.NewContext(ctx, h)), handlers.ContinueAsNewAdvised(ctx)
			if h.ContinueAsNewAdvised(ctx) != in {
				return nil, errors.New("the context and the handlers do not agree")
			}
			if list = append(list, in, bare); in {
				return list, nil
			}
		}
	}
	for _, tt := range []struct {
		name             string
		suggest          bool
		updates, most    int
		in, withoutThose bool
	}{
		{name: "suggested", suggest: true, in: true, withoutThose: true},
		{name: "updates", updates: 18, most: 19, in: true},
		{name: "few updates", updates: 2, most: 3, in: true},
		{name: "one update", updates: 1, most: 1, in: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := new(testsuite.WorkflowTestSuite).NewTestWorkflowEnvironment()
			env.RegisterWorkflow(asked)
			env.RegisterDelayedCallback(func() { env.SignalWorkflow("say", nil) }, time.Second)
			for range tt.updates - 1 {
				env.RegisterDelayedCallback(func() { env.UpdateWorkflow(handlers.Update, "", &answered{t}, handlers.Wait{}) }, 2*time.Second)
			}
			if tt.updates > 0 {
				env.RegisterDelayedCallback(func() { env.SignalWorkflow("say", nil) }, 3*time.Second)
				env.RegisterDelayedCallback(func() { env.UpdateWorkflow(handlers.Update, "", &answered{t}, handlers.Wait{}) }, 4*time.Second)
				env.RegisterDelayedCallback(func() { env.SignalWorkflow("say", nil) }, 5*time.Second)
			} else {
				env.SetContinueAsNewSuggested(tt.suggest)
			}
			env.ExecuteWorkflow(asked, tt.most)
			var list []bool
			if err := env.GetWorkflowResult(&list); err != nil {
				t.Fatal(err)
			}
			n := len(list)
			if list[n-2] != tt.in || list[n-1] != tt.withoutThose || tt.updates > 0 && n != 6 {
				t.Errorf("it was advised %v", list)
			}
		})
	}
}

// answered is who waits for an update that is answered.
type answered struct{ t *testing.T }

func (a *answered) Accept()          {}
func (a *answered) Reject(err error) { a.t.Error(err) }
func (a *answered) Complete(_ any, err error) {
	if err != nil {
		a.t.Error(err)
	}
}
