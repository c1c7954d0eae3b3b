package strategy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/pkg/strategy"
)

func TestUnknownWorkflow(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		w.worker()
		err := w.watch("nobody-"+w.queue, progress.Position{}).failure()
		if !errors.Is(err, progress.ErrNotFound) {
			t.Errorf("the error is %v", err)
		}
		if got := w.calls.methods(); !slices.Equal(got, []string{"DescribeWorkflowExecution"}) || w.calls.count("DescribeWorkflowExecution") != 1 {
			t.Errorf("the calls are %q, want one describe", got)
		}
	})
}

func TestBadWorkflowID(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		for _, id := range []string{"", strings.Repeat("x", progress.MaxWorkflowIDBytes+1), "\xff"} {
			if err := w.watch(id, progress.Position{}).failure(); !errors.Is(err, progress.ErrInvalid) {
				t.Errorf("%.10q: the error is %v", id, err)
			}
		}
		if got := w.calls.methods(); len(got) != 0 {
			t.Errorf("the calls are %q", got)
		}
	})
}

func TestMissingHandlers(t *testing.T) {
	t.Parallel()
	eachThat(t, needsHandlers, func(t *testing.T, w *world) {
		w.worker(reporter.WithoutHandlers())
		first := handlers.Query
		if w.arm.name == strategy.Push {
			first = handlers.Subscribe // it queries no state
		}
		for name, missing := range map[string]string{"Commanded": first, "QueryOnly": w.arm.needs} {
			if name == "QueryOnly" && w.arm.needs == handlers.Query {
				continue
			}
			v := w.follow(name)
			for {
				g, more := v.next()
				if !more {
					t.Fatal("the sequence has ended without an error")
				}
				if g.err == nil {
					continue // what the query said
				}
				if !errors.Is(g.err, strategy.ErrNoHandlers) || !strings.Contains(g.err.Error(), missing) || !strings.Contains(g.err.Error(), name) {
					t.Errorf("%s: the error is %v, want one that names %s", name, g.err, missing)
				}
				break
			}
			// What it does not take is not left in its history either.
			if n := w.calls.count("SignalWorkflowExecution"); n > 0 {
				t.Errorf("%s was signaled %d times", name, n)
			}
		}
	})
}

func TestWorkerDown(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, w *world) {
		stop := w.worker()
		v := w.follow("Commanded")
		events := v.counts(1)
		stop()
		down := time.Now()
		w.signal(v.id, "do", command{Count: 2})
		if !w.arm.quiet {
			n, more := v.notice(strategy.Stale)
			events = append(events, more...)
			if n.Since.After(down.Add(time.Second)) || n.Since.Before(down.Add(-10*time.Second)) || n.Reason == "" {
				t.Errorf("the notice is %v, the worker went at %v", n, down)
			}
		}
		w.worker()
		events = append(events, v.until("the count", counted(2))...)
		events = append(events, v.returns("complete")...)
		rising(t, events)
		var kinds []string
		for _, n := range v.notices {
			kinds = append(kinds, n.Kind)
		}
		if want := []string{strategy.Live}; !w.arm.quiet && !slices.Equal(kinds, want) {
			t.Errorf("the further notices are %q, want %q", kinds, want)
		}
	})
}

// A server that has too much to do is asked less often, and the sequence goes
// on.
func TestRateLimited(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		v.counts(1)
		w.calls.failWith(func(string) error {
			return serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_RPS_LIMIT, "namespace rate limit exceeded")
		})
		w.calls.reset()
		w.signal(v.id, "do", command{Count: 2})
		// A long poll that was under way may still bring the change.
		n, events := v.notice(strategy.Stale)
		if !strings.Contains(n.Error(), "rate limit") || strings.Contains(n.Reason, "rate limit") {
			t.Errorf("the notice is %v, for viewers %q", n, n.Reason)
		}
		calls := 0
		for _, m := range w.calls.methods() {
			calls += w.calls.count(m)
		}
		// Twice as long each time, from 0.2 s on.
		if calls > 10 {
			t.Errorf("it has asked %d times before it said so", calls)
		}
		w.calls.failWith(nil)
		if !slices.ContainsFunc(events, counted(2)) {
			v.until("the count", counted(2))
		}
		v.returns("complete")
	})
}

// So is one that refuses only the call by which changes come.
func TestRateLimitedForChanges(t *testing.T) {
	t.Parallel()
	eachThat(t, isTold, func(t *testing.T, w *world) {
		w.worker()
		id := w.start("Commanded")
		w.calls.failWith(func(method string) error {
			if method != w.arm.uses[0] {
				return nil
			}
			return serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, "the workflow is busy")
		})
		v := w.watch(id, progress.Position{})
		_, events := v.notice(strategy.Stale)
		if n := w.calls.count(w.arm.uses[0]); n > 10 {
			t.Errorf("it has asked %d times before it said so", n)
		}
		w.calls.failWith(nil)
		_, more := v.notice(strategy.Live)
		events = append(events, more...)
		events = append(events, v.counts(1)...)
		events = append(events, v.returns("complete")...)
		rising(t, events)
	})
}

// A worker that goes before signal has subscribed is back once it answers.
func TestWorkerGoesBeforeTheSubscription(t *testing.T) {
	t.Parallel()
	eachThat(t, func(a arm) bool { return a.name == strategy.Signal }, func(t *testing.T, w *world) {
		w.worker()
		id := w.start("Commanded")
		queries := 0
		w.calls.failWith(func(method string) error {
			switch method {
			case "SignalWorkflowExecution": // so that this is not what tells
				return serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW, "the workflow is busy")
			case "QueryWorkflow":
				if queries++; queries == 2 {
					return serviceerror.NewDeadlineExceeded("context deadline exceeded")
				}
			}
			return nil
		})
		v := w.watch(id, progress.Position{})
		v.notice(strategy.Stale)
		if n, _ := v.notice(strategy.Live); len(v.notices) > 0 {
			t.Errorf("before %v came %v", n, v.notices)
		}
		w.calls.failWith(nil)
		v.counts(1)
		v.returns("complete")
	})
}

// Whoever embeds the handlers without the plugin is followed all the same.
func TestHandlersByHand(t *testing.T) {
	t.Parallel()
	eachThat(t, needsHandlers, func(t *testing.T, w *world) {
		w.worker(reporter.WithoutHandlers())
		v := w.follow("ByHand")
		events := v.counts(3)
		if e := events[len(events)-1]; !slices.Equal(e.Tags, []string{"bread"}) {
			t.Errorf("the state is %+v", e)
		}
		w.signal(v.id, "do", command{})
		v.closed()
	})
}

// Nothing is left of a sequence whose consumer goes, by itself or with its
// context. It runs alone: it looks at all goroutines.
func TestNothingIsLeft(t *testing.T) {
	for _, a := range arms {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t, a)
			w.worker()
			v := w.follow("Commanded")
			v.counts(1)
			v.cancel()
			for more := true; more; {
				var g got
				if g, more = v.next(); more && !errors.Is(g.err, context.Canceled) {
					t.Errorf("after the cancellation came %+v, %v", g.event, g.err)
				}
			}
			w.nothingLeft()

			for range w.strategy.Watch(t.Context(), v.id, progress.Position{}) {
				break
			}
			w.nothingLeft()
		})
	}
}
