package reporter_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// Runs end, and continue as new, while Redis is away: what their activities
// had reported by then comes before the end and before the next run, since
// nothing is taken after them.
func TestEndsWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	server, store := ownRedis(t)
	e.store = store
	const n = 8
	begun, goOn := make(chan struct{}, 2*n), make(chan struct{})
	e.queue += "-ends-away"
	rep := e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(func(ctx workflow.Context, again bool) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{Summary: "It", StartToCloseTimeout: time.Minute})
			if err := workflow.ExecuteActivity(ctx, "act").Get(ctx, nil); err != nil || !again {
				return err
			}
			return workflow.NewContinueAsNewError(ctx, "wf", false)
		}, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(func(ctx context.Context) error {
			p := reporter.Activity(ctx)
			p.Percent(10)
			begun <- struct{}{}
			<-goOn
			p.Percent(100)
			p.Log("meanwhile")
			return nil
		}, activity.RegisterOptions{Name: "act"})
	}, reporter.WithFlushFor(10*time.Millisecond))
	var runs []client.WorkflowRun
	for i := range n {
		runs = append(runs, e.execute(client.StartWorkflowOptions{}, "wf", i%2 == 1))
	}
	for range n {
		<-begun
	}
	server.Stop()
	close(goOn)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for _, run := range runs {
		if err := run.Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	comeBack(t, ctx, server, store)
	for i, run := range runs {
		events := e.awaitClosed(run.GetID())
		want := 1 + i%2
		if got := len(only(events, func(e progress.Event) bool { return e.Message == "meanwhile" })); got != want {
			t.Errorf("%d reports of %d are there:\n%s", got, want, list(events))
		}
		step := only(events, func(e progress.Event) bool { return e.Type == progress.TypeStep && e.Status != progress.StatusQueued })
		if len(step) == 0 || step[len(step)-1].Status != progress.StatusCompleted {
			t.Errorf("the step has not ended:\n%s", list(events))
		}
	}
	if s := rep.Stats(); s.Lost != 0 || s.Refused != 0 {
		t.Errorf("stats = %+v", s)
	}
}

// Reports that waited for Redis are written in the order in which their
// activities ran: the newest state is the last one's.
func TestProgressInOrderAfterRedisWasAway(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	server, store := ownRedis(t)
	e.store = store
	const n, activities = 6, 4
	begun, goOn := make(chan struct{}, n), make(chan struct{})
	e.queue += "-in-order"
	e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
			for i := range activities {
				if err := workflow.ExecuteActivity(ctx, "act", i).Get(ctx, nil); err != nil {
					return err
				}
			}
			return nil
		}, workflow.RegisterOptions{Name: "wf"})
		r.RegisterActivityWithOptions(func(ctx context.Context, i int) error {
			if i == 0 {
				begun <- struct{}{}
				<-goOn
			}
			reporter.Activity(ctx).Percent(float64(i+1) * 100 / activities)
			return nil
		}, activity.RegisterOptions{Name: "act"})
	}, reporter.WithFlushFor(10*time.Millisecond))
	var runs []client.WorkflowRun
	for range n {
		runs = append(runs, e.execute(client.StartWorkflowOptions{}, "wf"))
	}
	for range n {
		<-begun
	}
	server.Stop()
	close(goOn)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for _, run := range runs {
		if err := run.Get(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	comeBack(t, ctx, server, store)
	for _, run := range runs {
		percent := 0.0
		for _, event := range only(e.awaitClosed(run.GetID()), func(e progress.Event) bool { return e.Percent != nil && e.Type == progress.TypeProgress }) {
			if *event.Percent < percent {
				t.Errorf("%v %% comes after %v %%", *event.Percent, percent)
			}
			percent = *event.Percent
		}
		if percent != 100 {
			t.Errorf("the run ended at %v %%", percent)
		}
	}
}

// ownRedis starts a server that the test may stop, and a store on it.
func ownRedis(t *testing.T) (*testenv.RedisServer, *redisstore.Store) {
	t.Helper()
	server := testenv.NewRedis(t, testenv.RedisOptions{})
	store, err := redisstore.Open(t.Context(), server.URL(), redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return server, store
}

// comeBack starts a server in the place of one that was stopped, and waits
// until the store has found it.
func comeBack(t *testing.T, ctx context.Context, server *testenv.RedisServer, store *redisstore.Store) {
	t.Helper()
	_, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	testenv.NewRedis(t, testenv.RedisOptions{Port: p})
	for store.Ping(ctx) != nil {
		if ctx.Err() != nil {
			t.Fatal("Redis does not come back")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
