package reporter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// recorder is a store that keeps what it is given, and when. Its answers are
// what a test asks for: what the real store answers is tested elsewhere.
type recorder struct {
	answer func(ctx context.Context, a redisstore.Append) error

	mu      sync.Mutex
	appends []recorded
	tried   []redisstore.Append // also those that failed
	left    int
	// leaveFails is how many calls of Leave fail.
	leaveFails int
}

type recorded struct {
	at time.Duration
	redisstore.Append
}

var began time.Time

func (r *recorder) Append(ctx context.Context, a redisstore.Append) (redisstore.Result, error) {
	a.Events = slices.Clone(a.Events)
	r.mu.Lock()
	answer := r.answer
	r.tried = append(r.tried, a)
	r.mu.Unlock()
	if answer != nil {
		if err := answer(ctx, a); err != nil {
			return redisstore.Result{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.appends = append(r.appends, recorded{time.Since(began), a})
	return redisstore.Result{}, nil
}

// attempts returns all appends so far, also those that failed.
func (r *recorder) attempts() []redisstore.Append {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.tried)
}

// fail makes the store answer with err from now on.
func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(context.Context, redisstore.Append) error { return err }
}

func (r *recorder) Leave(context.Context, string, redisstore.Producer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaveFails > 0 {
		r.leaveFails--
		return progress.ErrUnavailable
	}
	r.left++
	return nil
}

func (r *recorder) Snapshot(context.Context, string) (progress.Snapshot, error) {
	return progress.Snapshot{}, progress.ErrNotFound
}

// writes returns what was appended, one line each: when, the first number,
// and the events.
func (r *recorder) writes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, a := range r.appends {
		var events []string
		for _, e := range a.Events {
			events = append(events, short(e))
		}
		lines = append(lines, fmt.Sprintf("%v #%d %s", a.at.Round(time.Millisecond), a.Number, strings.Join(events, ", ")))
	}
	return lines
}

func short(e progress.Event) string {
	s := string(e.Type)
	if e.Step != "" {
		s += " " + e.Step
	}
	if e.Status != "" {
		s += " " + string(e.Status)
	}
	if e.Percent != nil {
		s += fmt.Sprintf(" %v%%", *e.Percent)
	}
	if e.Message != "" {
		s += " (" + e.Message + ")"
	}
	if e.Data != nil {
		var text string
		_ = json.Unmarshal(e.Data, &text)
		s += fmt.Sprintf(" %q", text)
	}
	return s
}

// reporting runs f in a bubble of fake time, with the reporter of an activity
// that is no step of its own, so that nothing but f's reports is written.
func reporting(t *testing.T, store *recorder, f func(t *testing.T, r *Reporter, a *ActivityReporter), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began = time.Now()
		r := New(nil, store, append([]Option{WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
		f(t, r, r.newActivity(t.Context(), testInfo(), header{Chain: "run", Run: "run", RunTime: 1}))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.Stop(ctx)
	})
}

func testInfo() activity.Info {
	return activity.Info{
		WorkflowExecution: workflow.Execution{ID: "wf", RunID: "run"}, ActivityID: "7",
		ActivityType: activity.Type{Name: "Act"}, StartedTime: time.Now(), Attempt: 1,
	}
}

func wantWrites(t *testing.T, store *recorder, want ...string) {
	t.Helper()
	if got := store.writes(); !reflect.DeepEqual(got, want) {
		t.Errorf("wrote\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFirstAtOnceThenMerged(t *testing.T) {
	store := &recorder{}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Percent(1)
		synctest.Wait()
		for i := range 9 {
			time.Sleep(time.Millisecond)
			a.Percent(float64(i + 2))
			a.Output("x")
		}
		time.Sleep(time.Second) // a pause
		a.Message("again")
		synctest.Wait()
		wantWrites(t, store,
			"0s #1 progress 1%",
			`50ms #2 progress 10%, output "xxxxxxxxx"`,
			"1.009s #4 progress 10% (again)")
		if s := r.Stats(); s.Merged != 16 || s.Written != 4 || s.Lost != 0 {
			t.Errorf("stats = %+v", s)
		}
		a.finish(nil)
	})
	if store.left != 1 {
		t.Errorf("left %d times", store.left)
	}
}

func TestStepsAndRecords(t *testing.T) {
	store := &recorder{}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Log("first")
		synctest.Wait()
		s := a.Step("load")
		s.Count(1, 4)
		s.Output("a")
		s.Percent(50)
		s.Output("b")
		s.Log("half")
		s.Output("c")
		s.End(nil)
		b := a.Step("store")
		b.End(errors.New("full"))
		a.Count(1, 2)
		a.finish(nil)
		wantWrites(t, store,
			"0s #1 log (first)",
			`0s #2 step load running 50%, output load "ab", log load (half), output load "c", step load completed 100%, `+
				`step store failed, progress 50%`)
	})
}

// However short an attempt is, its beginning is shown.
func TestAttemptsBeginAndEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"completed": {nil, "step Act completed"},
		"failed":    {errors.New("no lamp"), "step Act failed"},
		"canceled":  {context.Canceled, "step Act canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			store := &recorder{}
			synctest.Test(t, func(t *testing.T) {
				began = time.Now()
				r := New(nil, store)
				a := r.newActivity(t.Context(), testInfo(), header{Chain: "c", Run: "run", RunTime: 1, Step: "Act", WorkflowType: "WF"})
				a.finish(tc.err)
				a.finish(errors.New("only the first counts"))
				a.Percent(1) // too late
				synctest.Wait()
			})
			var events []progress.Event
			for _, a := range store.appends {
				events = append(events, a.Events...)
			}
			if len(events) != 2 || short(events[0]) != "step Act running" || events[0].WorkflowType != "WF" || events[0].Attempt != 1 || short(events[1]) != tc.want {
				t.Errorf("wrote %+v", events)
			}
			if tc.err != nil && tc.err != context.Canceled && events[1].Error != tc.err.Error() {
				t.Errorf("error = %q", events[1].Error)
			}
		})
	}
}

// Somebody else will complete the activity: it goes on, but this execution of
// it will say nothing more, and does not count against the bound of producers.
func TestResultPending(t *testing.T) {
	store := &recorder{}
	synctest.Test(t, func(t *testing.T) {
		r := New(nil, store)
		a := r.newActivity(t.Context(), testInfo(), header{Chain: "c", Run: "run", RunTime: 1, Step: "Act"})
		a.finish(activity.ErrResultPending)
		synctest.Wait()
	})
	if len(store.appends) != 1 || short(store.appends[0].Events[0]) != "step Act running" || store.left != 1 {
		t.Errorf("wrote %+v, left %d times", store.appends, store.left)
	}
}

func TestBlockedStoreBlocksNobody(t *testing.T) {
	store := &recorder{answer: func(ctx context.Context, _ redisstore.Append) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		for i := range 10_000 {
			a.Percent(float64(i % 100))
			a.Log("line")
			a.Step(fmt.Sprint("step", i)).Output("text")
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("the reports took %v", d)
		}
		if s := r.Stats(); s.Lost == 0 {
			t.Errorf("nothing was refused: %+v", s)
		}
		if n := len(a.buffer.entries); n > 2100 {
			t.Errorf("%d entries are held", n)
		}
		a.finish(nil)
		if d := time.Since(began); d != time.Second {
			t.Errorf("the end took %v, want the bound", d)
		}
		if s := r.Stats(); s.Unflushed != 1 {
			t.Errorf("stats = %+v", s)
		}
	})
}

func TestRetriedUnchangedThenLost(t *testing.T) {
	store := &recorder{}
	store.fail(progress.ErrUnavailable)
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Log("1")
		a.Log("2")
		synctest.Wait()
		a.Log("3")
		time.Sleep(3 * time.Second)
		tried := store.attempts()
		if n := len(tried); n < 4 {
			t.Errorf("tried %d times in 3 s", n)
		}
		for _, try := range tried {
			if try.Number != 1 || !reflect.DeepEqual(try.Events, tried[0].Events) {
				t.Errorf("tried %+v first, then %+v", tried[0], try)
			}
		}
		time.Sleep(3 * time.Second) // beyond the bound of the first append
		store.fail(nil)
		time.Sleep(3 * time.Second)
		a.finish(nil)
		first := int64(len(tried[0].Events))
		got := store.appends
		if len(got) != 1 || got[0].Number != first+1 {
			t.Errorf("appends = %+v, want one from number %d", got, first+1)
		}
		if s := r.Stats(); s.Lost != first || s.Retried < 4 || s.Written != 3-first {
			t.Errorf("stats = %+v", s)
		}
	}, WithRetryFor(5*time.Second))
}

func TestRefusedReportsJumpTheNumbers(t *testing.T) {
	store := &recorder{}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Log("1")
		synctest.Wait()
		for i := range 5 {
			a.Log(fmt.Sprint(i + 2))
		}
		time.Sleep(time.Second)
		a.Log("7")
		a.finish(nil)
		wantWrites(t, store, "0s #1 log (1)", "50ms #2 log (2), log (3), log (4)", "1s #7 log (7)")
		if s := r.Stats(); s.Lost != 2 {
			t.Errorf("stats = %+v", s)
		}
	}, WithBuffer(3, 1<<20))
}

func TestBytesAreBounded(t *testing.T) {
	store := &recorder{}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Log("1")
		synctest.Wait()
		a.Output(strings.Repeat("é", 20<<10))
		if a.buffer.bytes > 30<<10 {
			t.Errorf("%d bytes are held", a.buffer.bytes)
		}
		a.finish(nil)
		if s := r.Stats(); s.Lost != 2 || s.Written != 2 {
			t.Errorf("stats = %+v", s)
		}
	}, WithBuffer(1000, 30<<10))
	for _, a := range store.appends {
		for _, e := range a.Events {
			if err := e.Validate(); err != nil || strings.Contains(string(e.Data), `�`) {
				t.Errorf("%v: %s", err, e.Data)
			}
		}
	}
}

func TestSupersededSaysNothingMore(t *testing.T) {
	store := &recorder{answer: func(context.Context, redisstore.Append) error { return progress.ErrSuperseded }}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Percent(1)
		time.Sleep(time.Second)
		a.Percent(2)
		time.Sleep(time.Second)
		a.finish(nil)
		if len(store.attempts()) != 1 || store.left != 0 {
			t.Errorf("tried %d times, left %d times", len(store.attempts()), store.left)
		}
		if s := r.Stats(); s.Refused != 2 || s.Retried != 0 {
			t.Errorf("stats = %+v", s)
		}
	})
}

// Without the plugin every call does nothing.
func TestWithoutPlugin(t *testing.T) {
	a := Activity(t.Context())
	a.Percent(1)
	a.Count(1, 2)
	a.Message("m")
	a.Tags("t")
	a.Log("l")
	a.Output("o")
	a.Report(Progress{})
	s := a.Step("s")
	s.Percent(1)
	s.Count(1, 2)
	s.Message("m")
	s.Log("l")
	s.Output("o")
	s.End(nil)
	if err := a.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	WorkflowReporter{}.Percent(1)
	WorkflowReporter{}.Count(1, 2)
	WorkflowReporter{}.Message("m")
	WorkflowReporter{}.Step("s", progress.StatusRunning, "")
	if err := (WorkflowReporter{}).Durable(Progress{}); err != nil {
		t.Error(err)
	}
}
