package delivery

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/webhook"
)

// Who may start workflows may write any memo. A worker that is allowed nothing
// calls nothing that it should not: each push is one letter at once, which says
// what would allow it, and the run ends as ever.
func TestForbiddenMemo(t *testing.T) {
	near, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var listening sync.WaitGroup
	listening.Go(func() {
		for {
			conn, err := near.Accept()
			if err != nil {
				return
			}
			conn.Close()
			t.Error("a connection was made")
		}
	})
	defer func() { near.Close(); listening.Wait() }()
	s, err := webhook.NewSender(webhook.Options{Keys: keys(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := newRuns(t)
	r.stopWorker()
	r.deliverer = New(Options{Sender: s, Letters: r.letters})
	r.work()

	urls := map[string]string{"http://169.254.169.254/": "169.254.169.254", "http://" + near.Addr().String() + "/": "127.0.0.1"}
	for url, addr := range urls {
		run := r.start(url)
		eventually(t, "dead letter", func() bool { return r.lettersOf(run.GetID()) == 1 })
		r.signal(run, "count", 0)
		if err := run.Get(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		for _, letter := range r.list() {
			if letter.WorkflowID != run.GetID() {
				continue
			}
			// The guard has seen the address right before the call.
			if letter.URL != url || letter.Attempts != 1 || !strings.Contains(letter.Reason, "RUNCAST_PUSH_ALLOW") || !strings.HasSuffix(letter.Reason, "("+addr+")") {
				t.Errorf("%+v", letter)
			}
		}
		if n := r.lettersOf(run.GetID()); n != 2 {
			t.Errorf("%s: %d letters, want one of the first state and one of the end", url, n)
		}
		if n := r.letters.client.Exists(t.Context(), r.letters.endpoint(url)).Val(); n != 0 {
			t.Errorf("%s counts as an endpoint that fails", url)
		}
		r.replays(run)
	}
	if got := r.deliverer.Stats()[handlers.NoStrategy]; got.FailedAttempts != 4 || got.DeadLetters != 4 || got.Pushed != 0 {
		t.Errorf("%+v", got)
	}
}

func (r *runs) lettersOf(workflowID string) (n int) {
	r.t.Helper()
	for _, letter := range r.list() {
		if letter.WorkflowID == workflowID {
			n++
		}
	}
	return n
}
