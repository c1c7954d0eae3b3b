package reporter

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// What went wrong before a flush began is told to it too: a refusal comes at
// once, and may be faster than the caller.
func TestFlushTellsOfWhatFailedBefore(t *testing.T) {
	store := &recorder{}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		store.fail(progress.ErrTooManyProducers)
		a.Percent(1)
		synctest.Wait()
		if err := a.Flush(t.Context()); !errors.Is(err, progress.ErrTooManyProducers) {
			t.Errorf("flush: %v", err)
		}
		if err := a.Flush(t.Context()); err != nil {
			t.Errorf("a flush of nothing: %v", err)
		}
		store.fail(progress.ErrSuperseded)
		a.Percent(2)
		synctest.Wait()
		for range 2 {
			a.Percent(3)
			if err := a.Flush(t.Context()); !errors.Is(err, progress.ErrSuperseded) {
				t.Errorf("flush: %v", err)
			}
		}
	})
}

func TestFlushTellsOfWhatDidNotFit(t *testing.T) {
	store := &recorder{}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		written := make(chan struct{})
		store.answer = func(context.Context, redisstore.Append) error { <-written; return nil }
		a.Log("the line that is being written")
		synctest.Wait()
		for range 5 {
			a.Log("line")
		}
		close(written)
		if err := a.Flush(t.Context()); err == nil {
			t.Error("a flush says that all was written; some lines did not fit")
		}
	}, WithBuffer(3, 1<<20))
}

func TestLeavingIsTriedAgain(t *testing.T) {
	store := &recorder{leaveFails: 2}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Percent(1)
		a.finish(nil)
		if err := r.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if store.left != 1 {
		t.Errorf("left %d times", store.left)
	}
}

// Whatever is reported, the store's bound on an event's JSON is never met:
// every byte may need six there.
func TestEventsFitTheStore(t *testing.T) {
	store := &recorder{}
	longest := 0
	store.answer = func(_ context.Context, a redisstore.Append) error {
		for i := range a.Events {
			body, err := a.Events[i].AppendBody(nil)
			if err != nil || len(body) > redisstore.MaxEventBytes {
				t.Errorf("a %s event of %d bytes: %v", a.Events[i].Type, len(body), err)
			}
			longest = max(longest, len(body))
		}
		return nil
	}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		for _, char := range []string{"\x01", "\xff", "\u2028", "x"} {
			text := strings.Repeat(char, 100<<10)
			tags := make([]string, 100)
			for i := range tags {
				tags[i] = text[:redisstore.MaxTagBytes]
			}
			a.Tags(tags...)
			a.Message(text)
			a.Log(text)
			a.Output(text)
			s := a.Step(text)
			s.Message(text)
			s.Log(text)
			s.Output(text)
			s.End(errors.New(text))
			a.Report(Progress{Step: text, Message: text})
			if err := a.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}
		id := &identity{workflowID: "wf", runID: "run", chain: "run"}
		b := closeBatch(id, outcome{status: progress.StatusTerminated, message: strings.Repeat("\x01", 1<<20)})
		if err := r.write(t.Context(), b); err != nil {
			t.Error(err)
		}
	}, WithBuffer(10_000, 64<<20))
	if longest < 90<<10 {
		t.Errorf("the longest event had %d bytes: this tests nothing", longest)
	}
}

func TestFlush(t *testing.T) {
	store := &recorder{}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		a.Percent(1)
		synctest.Wait()
		a.Percent(2)
		if err := a.Flush(t.Context()); err != nil || len(store.appends) != 2 || time.Since(began) != 0 {
			t.Errorf("flush: %v after %v, %d appends", err, time.Since(began), len(store.appends))
		}
		store.fail(progress.ErrTooManyProducers)
		a.Percent(3)
		if err := a.Flush(t.Context()); !errors.Is(err, progress.ErrTooManyProducers) {
			t.Errorf("flush: %v", err)
		}
		store.fail(progress.ErrUnavailable)
		a.Percent(4)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush: %v", err)
		}
		a.finish(nil)
		if err := a.Flush(t.Context()); err == nil {
			t.Error("a flush after the end said that all was written")
		}
	}, WithRetryFor(5*time.Second))
}

// An activity that reports without a pause has one write in each interval,
// also when writes take their time.
func TestReportsWithoutAPause(t *testing.T) {
	store := &recorder{answer: func(context.Context, redisstore.Append) error {
		time.Sleep(10 * time.Millisecond)
		return nil
	}}
	reporting(t, store, func(t *testing.T, r *Reporter, a *ActivityReporter) {
		synctest.Wait()
		before := len(store.attempts())
		for i := range 1000 {
			a.Percent(float64(i) / 10)
			time.Sleep(time.Millisecond)
		}
		if n := len(store.attempts()) - before; n < 15 || n > 22 {
			t.Errorf("%d writes in a second, want one each 50 ms", n)
		}
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := store.attempts()
		last := all[len(all)-1].Events
		if e := last[len(last)-1]; e.Percent == nil || *e.Percent != 99.9 {
			t.Errorf("the last event is %+v", e)
		}
	})
}
