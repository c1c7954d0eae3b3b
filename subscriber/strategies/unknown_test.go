package strategies_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/runcast/runcast/subscriber/strategies"
)

// While nobody can tell whether there is a workflow, viewers wait for it, and
// the next ones have it asked again.
func TestUnknownForNow(t *testing.T) {
	var asked atomic.Int64
	s := start(t, "", func(o *strategies.Options) {
		o.Ways[2].Find = func(context.Context, string) error {
			asked.Add(1)
			return errors.New("a secret of the inside")
		}
	})
	for range 2 {
		expect(t, frames(t, s.get(t, "/redis/workflows/w/stream")), "snapshot 0-0 ")
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("it was asked for %d times", n)
	}
}

// A workflow that was found for its type is not asked for again.
func TestFoundForItsType(t *testing.T) {
	s := start(t, "T: redis", func(o *strategies.Options) {
		o.Ways[2].Find = func(context.Context, string) error {
			t.Error("it was asked for twice")
			return nil
		}
	})
	res := s.get(t, "/auto/workflows/w/stream")
	if name := res.Header.Get("Runcast-Strategy"); name != "redis" {
		t.Errorf("the strategy is %q", name)
	}
	expect(t, frames(t, res), "snapshot 0-0 ")
}

// While the store is away nobody is asked: streams open and wait.
func TestUnknownWithoutTheStore(t *testing.T) {
	s := start(t, "", func(o *strategies.Options) {
		o.Ways[2].Find = func(context.Context, string) error {
			t.Error("somebody was asked")
			return nil
		}
	})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if res := s.get(t, "/redis/workflows/w/stream"); res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
				t.Errorf("answered %s", res.Status)
			}
		})
	}
	wg.Wait()
}
