package reporter

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// What an activity says after the reporter was stopped under it is written by
// nobody, and counted.
func TestReportsAfterStopAreLost(t *testing.T) {
	store := &recorder{}
	synctest.Test(t, func(t *testing.T) {
		r := New(nil, store, WithLogger(slog.New(slog.DiscardHandler)))
		a := r.newActivity(t.Context(), testInfo(), header{Chain: "c", Run: "run", RunTime: 1, Step: "Act"})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.Stop(ctx)
		a.Log("after stop")
		a.Percent(50)
		if err := a.Flush(t.Context()); err == nil {
			t.Error("a flush says that all is written")
		}
		a.finish(nil)
		if s := r.Stats(); s.Written != 1 || s.Lost != 3 {
			t.Errorf("writes %v, stats %+v; want the line, the percentage and the end of the step lost", store.writes(), s)
		}
	})
}

// A flush that comes after the end says what became of the reports.
func TestFlushAfterTheEnd(t *testing.T) {
	for name, want := range map[string]error{"written": nil, "refused": progress.ErrTooManyProducers, "closed": progress.ErrClosed} {
		t.Run(name, func(t *testing.T) {
			store := &recorder{}
			store.fail(want)
			reporting(t, store, func(t *testing.T, _ *Reporter, a *ActivityReporter) {
				a.Log("x")
				a.finish(nil)
				for range 2 {
					if err := a.Flush(t.Context()); err != want {
						t.Errorf("flush: %v, want %v", err, want)
					}
				}
			})
		})
	}
}

// The bound on retries is one for all that is pending when an activity ends,
// so that the end of its run waits long enough for it, and no longer.
func TestBacklogIsBounded(t *testing.T) {
	store := &recorder{}
	store.fail(progress.ErrUnavailable)
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		r := New(nil, store, WithLogger(slog.New(slog.DiscardHandler)))
		a := r.newActivity(t.Context(), testInfo(), header{Chain: "run", Run: "run", RunTime: 1})
		const lines = 990
		for range lines {
			a.Log("line")
		}
		a.finish(nil)
		r.queue.put(closeBatch(a.id, outcome{status: progress.StatusCompleted}))
		<-a.ended
		if took := time.Since(began); took > r.opt.settleFor() {
			t.Errorf("settled after %v", took)
		}
		store.fail(nil)
		if err := r.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.Stats(); s.Lost != lines || s.Written != 1 {
			t.Errorf("stats = %+v", s)
		}
	})
}

// What came before the end is written before it, also where that takes long.
func TestBacklogBeforeTheEnd(t *testing.T) {
	store := &recorder{}
	store.fail(progress.ErrUnavailable)
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		r := New(nil, store, WithLogger(slog.New(slog.DiscardHandler)))
		a := r.newActivity(t.Context(), testInfo(), header{Chain: "run", Run: "run", RunTime: 1})
		const lines = 990
		for range lines {
			a.Log("line")
		}
		a.finish(nil)
		r.queue.put(closeBatch(a.id, outcome{status: progress.StatusCompleted}))
		time.Sleep(25 * time.Second)
		store.fail(nil)
		if err := r.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.Stats(); s.Lost != 0 || s.Written != lines+1 {
			t.Errorf("stats = %+v", s)
		}
		if last := store.appends[len(store.appends)-1]; last.Events[0].Type != progress.TypeClosed {
			t.Errorf("the last is %s", last.Events[0].Type)
		}
	})
}

// A part of the store that is away holds up nobody whose events go elsewhere,
// whether it answers with an error or not at all.
func TestOneShardAway(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(ctx context.Context) error
		within time.Duration
	}{
		"refuses": {func(context.Context) error { return progress.ErrUnavailable }, 10 * time.Millisecond},
		"hangs":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, callFor + 10*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			store := &recorder{answer: func(ctx context.Context, a redisstore.Append) error {
				if strings.HasPrefix(a.WorkflowID, "bad") {
					return tc.answer(ctx)
				}
				return nil
			}}
			synctest.Test(t, func(t *testing.T) {
				began = time.Now()
				r := New(nil, store, WithLogger(slog.New(slog.DiscardHandler)))
				put := func(id string) {
					i := &identity{workflowID: id, runID: "r", chain: "r", time: time.Now()}
					r.queue.put(&batch{id: i, producer: workflowProducer("r"), number: 1, events: []progress.Event{i.event(progress.TypeStarted)}, begins: true})
				}
				for i := range 40 {
					put(fmt.Sprint("bad", i))
				}
				synctest.Wait()
				put("good")
				if err := r.WaitIdle(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(store.appends) != 1 || store.appends[0].at > tc.within {
					t.Errorf("written %v, want the good one within %v", store.writes(), tc.within)
				}
			})
		})
	}
}
