package delivery

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/handlers"
)

// Runs whose receiver keeps failing pause it: then nothing is sent, and what
// they have to say are dead letters. After the pause one of them tries, while
// the others still do not; once it is taken all is as before.
func TestFailingEndpointIsPaused(t *testing.T) {
	r := newRuns(t)
	var later atomic.Int64 // what the letters' clock is ahead, in ns
	r.stopWorker()
	r.letters.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	r.work()
	well := make(chan struct{})
	heal := sync.OnceFunc(func() { close(well) })
	defer heal()
	var probing atomic.Bool
	s := takePosts(t, func(_ int, w http.ResponseWriter) {
		if !probing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		<-well
	})
	var all []client.WorkflowRun
	for range PauseAfter + 2 {
		all = append(all, r.start(s.URL))
	}
	each := func(count int) {
		t.Helper()
		for _, run := range all {
			r.signal(run, "count", count)
		}
	}
	many := len(all)
	// The last ones may find it paused by the others before they have tried.
	eventually(t, "letter of each", func() bool { return len(r.list()) == many })
	failed, attempts := s.count(), 0
	for _, letter := range r.list() {
		attempts += letter.Attempts
		if !strings.Contains(letter.Reason, "paused until") {
			t.Errorf("the letter is %+v", letter)
		}
	}
	if attempts != failed {
		t.Errorf("the letters count %d attempts, and %d requests came", attempts, failed)
	}

	each(1)
	eventually(t, "letter of each, in the pause", func() bool { return len(r.list()) == 2*many })
	if n := s.count(); n != failed || failed < PauseAfter {
		t.Errorf("%d requests before the pause, %d within it", failed, n-failed)
	}

	probing.Store(true)
	later.Store(int64(2 * time.Minute))
	each(1)
	eventually(t, "letter of each but one, beside the probe", func() bool { return len(r.list()) == 3*many-1 })
	eventually(t, "probe", func() bool { return s.count() > failed })
	if n := s.count(); n != failed+1 {
		t.Errorf("%d requests while it is tried, want 1", n-failed)
	}
	heal()
	stats := func() Stats { return r.deliverer.Stats()[handlers.NoStrategy] }
	eventually(t, "end of the pause", func() bool { return stats().Pushed == 1 && r.paused(s.URL) == "" })

	each(1)
	eventually(t, "push of each", func() bool { return stats().Pushed == int64(1+many) })
	each(0)
	for _, run := range all {
		if err := run.Get(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		r.replays(run)
	}
	if n, letters := s.count(), len(r.list()); n != failed+1+2*many || letters != 3*many-1 {
		t.Errorf("in the end %d requests and %d letters, want %d and %d", n, letters, failed+1+2*many, 3*many-1)
	}
	if got := stats(); got.FailedAttempts != int64(failed) || got.Paused != int64(3*many-1) || got.DeadLetters != got.Paused {
		t.Errorf("with %d failures: %+v", failed, got)
	}
}

// paused returns until when a URL is paused, as Redis has it; "": it is not.
func (r *runs) paused(url string) string {
	return r.letters.client.HGet(r.t.Context(), r.letters.endpoint(url), "paused_until").Val()
}
