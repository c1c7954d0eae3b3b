package parts_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/runcast/runcast/cmd/dev/internal/parts"
)

// What uses a server stops before the server does.
func TestGroupStopsInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g parts.Group
		var stopped []string
		g.Add("redis", func(context.Context) error { stopped = append(stopped, "redis"); return nil })
		g.Go("worker", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second) // an orderly stop takes a while, and is waited for
			stopped = append(stopped, "worker")
			return nil
		})
		g.Go("api", func(ctx context.Context) error {
			<-ctx.Done()
			stopped = append(stopped, "api")
			return nil
		})
		if err := g.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if want := []string{"api", "worker", "redis"}; !slices.Equal(stopped, want) {
			t.Errorf("stopped %q, want %q", stopped, want)
		}
		if err := g.Stop(t.Context()); err != nil || len(stopped) != 3 {
			t.Errorf("a second stop: %v, %q", err, stopped)
		}
		select {
		case <-g.Failed():
			t.Error("parts that were stopped count as failed")
		default:
		}
	})
}

// A part that does not end is named, and the others are stopped all the same.
func TestGroupStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g parts.Group
		stopped := false
		end := make(chan struct{})
		g.Add("redis", func(context.Context) error { stopped = true; return errors.New("still loading") })
		g.Go("worker", func(context.Context) error { <-end; return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
		defer cancel()
		start := time.Now()
		err := g.Stop(ctx)
		if took := time.Since(start); took != 9*time.Second {
			t.Errorf("it took %v", took)
		}
		if !stopped || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Redis stopped: %v; error %v", stopped, err)
		}
		for _, want := range []string{"worker: ", "redis: still loading"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v does not say %q", err, want)
			}
		}
		close(end)
	})
}

func TestGroupFails(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		var g parts.Group
		end := make(chan struct{})
		g.Go("api", func(ctx context.Context) error { <-ctx.Done(); return nil })
		g.Go("demo", func(context.Context) error { return nil }) // done, which is no failure
		g.Go("worker", func(context.Context) error { <-end; return broken })
		g.Go("subscriber", func(context.Context) error { <-end; return broken })
		synctest.Wait()
		select {
		case <-g.Failed():
			t.Fatal("failed too early")
		default:
		}
		close(end)
		<-g.Failed()
		if err := g.Stop(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "worker: broken") {
			t.Errorf("got %v", err)
		}
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r parts.Readiness
		if err := r.Err(); err != nil {
			t.Errorf("nothing is expected: %v", err)
		}
		worker, api := r.Expect("worker"), r.Expect("api")
		waited := make(chan error, 1)
		go func() { waited <- r.Wait(t.Context(), nil) }()
		synctest.Wait()
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), "worker, api") {
			t.Errorf("got %v", err)
		}
		worker("127.0.0.1:1")
		worker("127.0.0.1:1") // again is no harm
		synctest.Wait()
		if err := r.Err(); err == nil || strings.Contains(err.Error(), "worker") || len(waited) > 0 {
			t.Errorf("got %v; the wait is over: %v", err, len(waited) > 0)
		}
		api("127.0.0.1:2")
		if err := <-waited; err != nil {
			t.Error(err)
		}
		if err := r.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestReadinessGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r parts.Readiness
		r.Expect("worker")
		failed := make(chan struct{})
		close(failed)
		if err := r.Wait(t.Context(), failed); !errors.Is(err, parts.ErrFailed) || !strings.Contains(err.Error(), "worker") {
			t.Errorf("after a failure: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Wait(ctx, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "worker") {
			t.Errorf("after the time: %v", err)
		}
	})
}
