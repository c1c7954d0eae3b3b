package delivery

import (
	"net/http"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/handlers"
)

// Who unsubscribes is not pushed to again, is no dead letter, and is told anew
// at once when it comes again, although its last push was to be tried later.
func TestUnsubscribeEndsWhatIsUnderWay(t *testing.T) {
	r := newRuns(t)
	busy, good := takePosts(t, func(_ int, w http.ResponseWriter) {
		w.Header().Set("Retry-After", "40")
		w.WriteHeader(http.StatusServiceUnavailable)
	}), takePosts(t, nil)
	run := r.start()
	until := time.Now().Add(time.Minute)
	r.signal(run, handlers.Subscribe, handlers.Subscription{ID: "a", URL: busy.URL, Push: true, Until: until})
	eventually(t, "first push", func() bool { return busy.count() == 1 && r.deliverer.Stats()[handlers.NoStrategy].FailedAttempts == 1 })
	// Both may come in one task, in any order.
	r.signal(run, handlers.Unsubscribe, handlers.Subscription{ID: "a", Until: until})
	r.signal(run, handlers.Subscribe, handlers.Subscription{ID: "a", URL: good.URL, Push: true, Until: until.Add(time.Second)})
	eventually(t, "push to who has come again", func() bool { return good.count() == 1 })
	r.signal(run, handlers.Unsubscribe, handlers.Subscription{ID: "a"})
	r.signal(run, "count", 1)
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if list := r.list(); len(list) != 0 || busy.count() != 1 || good.count() != 1 {
		t.Errorf("%d and %d pushes, dead letters %+v", busy.count(), good.count(), list)
	}
	r.replays(run)
}
