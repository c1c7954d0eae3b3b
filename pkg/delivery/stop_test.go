package delivery

import (
	"net/http"
	"testing"

	"github.com/runcast/runcast/pkg/handlers"
)

// A worker that stops while a receiver takes its time says nothing against the
// receiver: the push is tried again by another one, and no pause is nearer.
func TestStoppingWorkerBlamesNobody(t *testing.T) {
	r := newRuns(t)
	release := make(chan struct{})
	s := takePosts(t, func(n int, _ http.ResponseWriter) {
		if n == 0 {
			<-release
		}
	})
	defer close(release)
	run := r.start(s.URL)
	eventually(t, "first push", func() bool { return s.count() == 1 })
	r.stopWorker()
	r.work()
	eventually(t, "push by another worker", func() bool { return s.count() == 2 })
	if _, ids, _ := s.got(); ids[0] != ids[1] {
		t.Errorf("the IDs are %q", ids)
	}
	if n := len(r.letters.client.Keys(t.Context(), r.letters.base+":endpoint:*").Val()); n != 0 {
		t.Error("the endpoint has failed")
	}
	if got := r.deliverer.Stats()[handlers.NoStrategy]; got.FailedAttempts != 0 || got.DeadLetters != 0 {
		t.Errorf("%+v", got)
	}
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.replays(run)
}
