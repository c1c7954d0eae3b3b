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

// A refusal is kept as long as it says, for its workflow alone, and its cause
// is told once.
func TestLaterIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("too much to do")
		asked := 0
		c := newAnswers(func(_ context.Context, id string) (string, error) {
			asked++
			if id == "w" {
				return "", &Later{After: 5 * time.Second, Err: cause}
			}
			return "T", nil
		}, 0)
		if _, err := c.of(t.Context(), "w"); !errors.Is(err, cause) {
			t.Errorf("the first is told %v", err)
		}
		time.Sleep(2 * time.Second)
		for range 3 {
			_, err := c.of(t.Context(), "w")
			if later, ok := errors.AsType[*Later](err); !ok || later.After != 3*time.Second || later.Err != nil {
				t.Errorf("the others are told %#v", err)
			}
		}
		if c.has("w") {
			t.Error("a refusal is taken for an answer")
		}
		if name, err := c.of(t.Context(), "other"); name != "T" || err != nil || asked != 2 {
			t.Errorf("another workflow: %q, %v, after %d questions", name, err, asked)
		}
		time.Sleep(3*time.Second + 1)
		if _, err := c.of(t.Context(), "w"); !errors.Is(err, cause) || asked != 3 {
			t.Errorf("after the time it is told %v, after %d questions", err, asked)
		}
	})
}
