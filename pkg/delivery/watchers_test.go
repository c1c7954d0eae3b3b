package delivery

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// Who watches is told the end though another's receiver does not answer.
func TestWatchersDoNotWaitForReceivers(t *testing.T) {
	for _, push := range []bool{false, true} {
		t.Run(fmt.Sprint("push ", push), func(t *testing.T) {
			r := newRuns(t)
			hold := make(chan struct{})
			release := sync.OnceFunc(func() { close(hold) })
			stuck, watcher := takePosts(t, func(int, http.ResponseWriter) { <-hold }), takePosts(t, nil)
			t.Cleanup(release) // before the server waits for its requests
			run := r.start(stuck.URL)
			r.signal(run, handlers.Subscribe, handlers.Subscription{ID: "watcher", URL: watcher.URL, Push: push, Transient: true})
			eventually(t, "first", func() bool { return stuck.count() == 1 && watcher.count() == 1 })
			r.signal(run, "count", 0)
			eventually(t, "end, while the other one is stuck", func() bool {
				posts, _, _ := watcher.got()
				return posts[len(posts)-1].Data.Returned == progress.StatusCompleted
			})
			if n := stuck.count(); n != 1 {
				t.Errorf("who does not answer was told %d times by then, want once", n)
			}
			release()
			if err := run.Get(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			posts, _, _ := stuck.got()
			if last := posts[len(posts)-1].Data; last.Returned != progress.StatusCompleted {
				t.Errorf("the receiver's last state is %+v", last)
			}
			r.replays(run)
		})
	}
}
