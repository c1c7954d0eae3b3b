package strategies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever deadline a request has, or none, the question has its own.
func TestTypeWithoutDeadline(t *testing.T) {
	c := newAnswers(func(ctx context.Context, _ string) (string, error) {
		deadline, ok := ctx.Deadline()
		if rest := time.Until(deadline); !ok || rest <= 0 || rest > answerWait {
			return "", fmt.Errorf("the deadline is in %v: %v", rest, ctx.Err())
		}
		return "T", ctx.Err()
	}, 0)
	if name, err := c.of(t.Context(), "w"); name != "T" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
}

// Who asks first may go; the answer is for the others, too.
func TestTypeIsForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newAnswers(func(ctx context.Context, _ string) (string, error) {
			select {
			case <-release:
				return "T", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}, 0)
		first, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _, _ = c.of(first, "w") })
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				if name, err := c.of(t.Context(), "w"); name != "T" || err != nil {
					t.Errorf("%q, %v", name, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		all.Wait()
		// Nobody waits for ever for an answer that does not come.
		release = nil
		began := time.Now()
		if _, err := c.of(t.Context(), "other"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != answerWait {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

// A question that panics is answered for those who wait, and may be asked again.
func TestTypePanic(t *testing.T) {
	panics := true
	c := newAnswers(func(context.Context, string) (string, error) {
		if panics {
			panic("a bug")
		}
		return "T", nil
	}, 0)
	func() {
		defer func() { _ = recover() }()
		_, _ = c.of(t.Context(), "w")
	}()
	panics = false
	if name, err := c.of(t.Context(), "w"); name != "T" || err != nil {
		t.Errorf("%q, %v", name, err)
	}
}

// Strangers who ask for ever other workflows do not make as many calls at once.
func TestTypesAreAskedForWithinABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		c := newAnswers(func(context.Context, string) (string, error) { <-release; return "T", nil }, 0)
		var all sync.WaitGroup
		for i := range maxAsking {
			all.Go(func() { _, _ = c.of(t.Context(), fmt.Sprint(i)) })
		}
		synctest.Wait()
		if _, err := c.of(t.Context(), "one more"); !errors.Is(err, errAsking) {
			t.Errorf("%v", err)
		}
		close(release)
		all.Wait()
		if name, err := c.of(t.Context(), "one more"); name != "T" || err != nil {
			t.Errorf("%q, %v", name, err)
		}
	})
}
