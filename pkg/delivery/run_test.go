package delivery

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/webhook"
)

// counting counts to what each signal says, until it says 0.
func counting(ctx workflow.Context) error {
	h, err := handlers.Install(ctx, handlers.Options{})
	if err != nil {
		return err
	}
	for c := workflow.GetSignalChannel(ctx, "count"); ; {
		var n int64
		var canceled error
		s := workflow.NewSelector(ctx).AddReceive(c, func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, &n) })
		s.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) { canceled = ctx.Err() })
		if s.Select(ctx); canceled != nil || n == 0 {
			h.Finish(ctx, handlers.StatusOf(canceled))
			return canceled
		}
		for i := range n {
			h.Change(ctx, func(s *handlers.State) { s.Current = &i })
		}
	}
}

// runs is one test's worker.
type runs struct {
	t         *testing.T
	client    client.Client
	queue     string
	letters   *Letters
	deliverer *Deliverer
	// stopWorker stops the worker; another one may work then.
	stopWorker func()
}

func newRuns(t *testing.T) *runs {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
	t.Cleanup(func() { c.Close() })
	r := &runs{t: t, client: testenv.Temporal(t), queue: "delivery-" + testenv.Prefix(t), letters: letters(t, c, LetterOptions{})}
	r.deliverer = New(Options{Sender: sender(t), Letters: r.letters})
	r.work()
	return r
}

// work starts a worker.
func (r *runs) work() {
	r.t.Helper()
	w := worker.New(r.client, r.queue, worker.Options{})
	w.RegisterWorkflowWithOptions(counting, workflow.RegisterOptions{Name: "counting"})
	r.deliverer.Register(w)
	if err := w.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.stopWorker = sync.OnceFunc(w.Stop)
	r.t.Cleanup(r.stopWorker)
}

func (r *runs) start(push ...string) client.WorkflowRun {
	r.t.Helper()
	o := client.StartWorkflowOptions{ID: "wf-" + testenv.Prefix(r.t), TaskQueue: r.queue}
	if len(push) > 0 {
		o.Memo = map[string]any{handlers.PushMemo: push}
	}
	run, err := r.client.ExecuteWorkflow(r.t.Context(), o, "counting")
	if err != nil {
		r.t.Fatal(err)
	}
	return run
}

func (r *runs) signal(run client.WorkflowRun, name string, arg any) {
	r.t.Helper()
	if err := r.client.SignalWorkflow(r.t.Context(), run.GetID(), run.GetRunID(), name, arg); err != nil {
		r.t.Fatal(err)
	}
}

// replays fails unless the run's history, deliveries and all, is what its code
// does again.
func (r *runs) replays(run client.WorkflowRun) {
	r.t.Helper()
	var h historypb.History
	for it := r.client.GetWorkflowHistory(r.t.Context(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			r.t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	w := worker.NewWorkflowReplayer()
	w.RegisterWorkflowWithOptions(counting, workflow.RegisterOptions{Name: "counting"})
	if err := w.ReplayWorkflowHistory(nil, &h); err != nil {
		r.t.Errorf("the history does not replay: %v", err)
	}
}

// postServer is a receiver of posts.
type postServer struct {
	*httptest.Server
	mu    sync.Mutex
	posts []handlers.Post
	ids   []string
	times []time.Time
	busy  int // requests under way
	most  int
	// answer, where it is set, answers the nth request, from 0.
	answer func(n int, w http.ResponseWriter)
}

func takePosts(t *testing.T, answer func(n int, w http.ResponseWriter)) *postServer {
	t.Helper()
	s := &postServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id, err := verify(t, r, body)
		var post handlers.Post
		if err == nil {
			err = json.Unmarshal(body, &post)
		}
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		n := len(s.posts)
		s.posts, s.ids, s.times = append(s.posts, post), append(s.ids, id), append(s.times, time.Now())
		s.busy++
		s.most = max(s.most, s.busy)
		s.mu.Unlock()
		if s.answer != nil {
			s.answer(n, w)
		}
		s.mu.Lock()
		s.busy--
		s.mu.Unlock()
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *postServer) got() (posts []handlers.Post, ids []string, times []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts), slices.Clone(s.ids), slices.Clone(s.times)
}

func (s *postServer) count() int {
	posts, _, _ := s.got()
	return len(posts)
}

// The newest state wins, one at a time, and the last one is how it ended.
func TestPushes(t *testing.T) {
	r := newRuns(t)
	release := make(chan struct{})
	s := takePosts(t, func(n int, _ http.ResponseWriter) {
		if n == 0 {
			<-release
		}
	})
	run := r.start(s.URL + "/?a=b")
	eventually(t, "first push", func() bool { return s.count() == 1 })
	for range 5 {
		r.signal(run, "count", 10)
	}
	eventually(t, "state", func() bool { return r.state(run).Version == 51 })
	close(release)
	eventually(t, "second push", func() bool { return s.count() == 2 })
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	posts, ids, _ := s.got()
	var versions []int64
	for _, p := range posts {
		versions = append(versions, p.Data.Version)
		if p.Type != handlers.ProgressPost || p.WorkflowID != run.GetID() || p.Data.RunID != run.GetRunID() || p.Data.Type != "counting" {
			t.Errorf("%+v", p)
		}
	}
	if !slices.Equal(versions, []int64{1, 51, 52}) || s.most != 1 {
		t.Errorf("versions %v came, at most %d at once", versions, s.most)
	}
	if last := posts[len(posts)-1]; last.Data.Returned != progress.StatusCompleted {
		t.Errorf("the last is %+v", last)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(ids)))) != len(ids) {
		t.Errorf("the IDs are %q", ids)
	}
	r.replays(run)
}

func (r *runs) state(run client.WorkflowRun) handlers.State {
	r.t.Helper()
	v, err := r.client.QueryWorkflow(r.t.Context(), run.GetID(), run.GetRunID(), handlers.Query)
	if err != nil {
		r.t.Fatal(err)
	}
	var s handlers.State
	if err := v.Get(&s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// A retry carries the ID of the first attempt, and waits as long as it is
// asked to.
func TestRetryAfter(t *testing.T) {
	r := newRuns(t)
	s := takePosts(t, func(n int, w http.ResponseWriter) {
		if n == 0 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	run := r.start(s.URL)
	eventually(t, "retry", func() bool { return s.count() == 2 })
	_, ids, times := s.got()
	if waited := times[1].Sub(times[0]); waited < 2*time.Second || ids[0] != ids[1] {
		t.Errorf("%q came %v apart", ids, waited)
	}
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	r.replays(run)
}

// Who asks to be left alone for longer than a push can wait is, and what comes
// meanwhile are dead letters.
func TestLongRetryAfterPauses(t *testing.T) {
	r := newRuns(t)
	s := takePosts(t, func(_ int, w http.ResponseWriter) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	run := r.start(s.URL)
	eventually(t, "dead letter", func() bool { return len(r.list()) == 1 })
	r.signal(run, "count", 1)
	eventually(t, "further dead letter", func() bool { return len(r.list()) == 2 })
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if list := r.list(); len(list) != 3 || s.count() != 1 {
		t.Errorf("%d letters, %d requests", len(list), s.count())
	}
	if got := r.deliverer.Stats()[handlers.NoStrategy]; got.Paused != 2 || got.DeadLetters != 3 || got.FailedAttempts != 1 {
		t.Errorf("%+v", got)
	}
	r.replays(run)
}

func (r *runs) list() []webhook.Letter {
	r.t.Helper()
	page, _, err := r.letters.List(r.t.Context(), "", MaxPage)
	if err != nil {
		r.t.Fatal(err)
	}
	return page
}

// A run whose receiver is dead ends all the same, soon, and its last state is
// a dead letter.
func TestDeadEndpoint(t *testing.T) {
	r := newRuns(t)
	s := takePosts(t, nil)
	s.Close()
	run := r.start(s.URL)
	r.signal(run, "count", 3)
	r.signal(run, "count", 0)
	began := time.Now()
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("it was held up for %v", took)
	}
	list := r.list()
	if len(list) == 0 || list[0].WorkflowID != run.GetID() || list[0].RunID != run.GetRunID() || list[0].Attempts != 3 {
		t.Fatalf("%+v", list)
	}
	letter, err := r.letters.read(t.Context(), list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	var post handlers.Post
	if err := json.Unmarshal(letter.Body, &post); err != nil || post.Data.Returned != progress.StatusCompleted {
		t.Errorf("%+v, %v", post, err)
	}
	r.replays(run)
}

// Subscribers by signal: told at once, renewed without being told again, and
// dropped when they are gone, fail, or say so.
func TestSubscribers(t *testing.T) {
	for _, push := range []bool{false, true} {
		t.Run(fmt.Sprint("push ", push), func(t *testing.T) {
			r := newRuns(t)
			good, gone, dead := takePosts(t, nil), takePosts(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusGone) }), takePosts(t, nil)
			dead.Close()
			run := r.start()
			sub := func(id, url string) handlers.Subscription {
				return handlers.Subscription{ID: id, URL: url, Push: push, Transient: true, Until: time.Now().Add(time.Minute)}
			}
			r.signal(run, handlers.Subscribe, sub("good", good.URL))
			r.signal(run, handlers.Subscribe, sub("gone", gone.URL))
			r.signal(run, handlers.Subscribe, sub("dead", dead.URL))
			r.signal(run, handlers.Subscribe, handlers.Subscription{ID: "late", URL: good.URL, Until: time.Now().Add(-time.Hour)})
			r.signal(run, handlers.Subscribe, handlers.Subscription{})
			eventually(t, "first", func() bool { return good.count() == 1 && gone.count() == 1 })
			r.signal(run, handlers.Subscribe, sub("good", good.URL))
			r.signal(run, "count", 1)
			eventually(t, "change", func() bool { return good.count() == 2 })
			posts, _, _ := good.got()
			if posts[0].Data.Version != 1 || posts[1].Data.Version != 2 || posts[1].Subscriber != "good" || (posts[1].Data.Current != nil) != push {
				t.Errorf("%+v", posts)
			}
			attempts, arm := int64(maxAttempts(push)), handlers.SignalStrategy
			if push {
				arm = handlers.PushStrategy
			}
			eventually(t, "end of the dead one", func() bool { return r.deliverer.Stats()[arm].FailedAttempts >= attempts+1 })
			r.signal(run, handlers.Unsubscribe, handlers.Subscription{ID: "good"})
			r.signal(run, "count", 1)
			r.signal(run, "count", 0)
			if err := run.Get(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if good.count() != 2 || gone.count() != 1 {
				t.Errorf("after it was unsubscribed there are %d posts; who is gone was told %d times", good.count(), gone.count())
			}
			if n := r.deliverer.Stats()[arm].FailedAttempts; n != attempts+1 {
				t.Errorf("%d attempts failed, want %d", n, attempts+1)
			}
			if list := r.list(); len(list) != 0 {
				t.Errorf("there are dead letters: %+v", list)
			}
			r.replays(run)
		})
	}
}

// maxAttempts is how many a dead transient subscriber costs: three
// notifications, or three pushes of two attempts.
func maxAttempts(push bool) int {
	if push {
		return 6
	}
	return 3
}

// Who does not renew is not told any more.
func TestSubscriptionExpires(t *testing.T) {
	r := newRuns(t)
	short, long := takePosts(t, nil), takePosts(t, nil)
	run := r.start()
	soon := time.Now().Add(3 * time.Second)
	r.signal(run, handlers.Subscribe, handlers.Subscription{ID: "short", URL: short.URL, Push: true, Transient: true, Until: soon})
	r.signal(run, handlers.Subscribe, handlers.Subscription{ID: "long", URL: long.URL, Push: true, Transient: true})
	eventually(t, "first", func() bool { return short.count() == 1 && long.count() == 1 })
	eventually(t, "expiry", func() bool { return time.Now().After(soon) })
	r.signal(run, "count", 1)
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if short.count() != 1 || long.count() < 2 {
		t.Errorf("who has expired was told %d times, the other one %d times", short.count(), long.count())
	}
	r.replays(run)
}

// A push needs no Redis.
func TestPushWithoutRedis(t *testing.T) {
	r := newRuns(t)
	port, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	away := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", port), MaxRetries: -1, DialerRetries: 1})
	defer away.Close()
	r.letters.client = away
	s := takePosts(t, nil)
	run := r.start(s.URL)
	r.signal(run, "count", 0)
	if err := run.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	posts, _, _ := s.got()
	if len(posts) == 0 || posts[len(posts)-1].Data.Returned != progress.StatusCompleted {
		t.Errorf("%+v", posts)
	}
	r.replays(run)
}

// A run that is canceled says so.
func TestCanceledRunIsPushed(t *testing.T) {
	r := newRuns(t)
	s := takePosts(t, nil)
	run := r.start(s.URL)
	eventually(t, "first push", func() bool { return s.count() == 1 })
	if err := r.client.CancelWorkflow(t.Context(), run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	if err := run.Get(t.Context(), nil); err == nil {
		t.Fatal("it was not canceled")
	}
	posts, _, _ := s.got()
	if last := posts[len(posts)-1]; last.Data.Returned != progress.StatusCanceled {
		t.Errorf("the last is %+v", last)
	}
	r.replays(run)
}

// A memo that is no list of URLs is no reason for a run to fail.
func TestBadMemo(t *testing.T) {
	r := newRuns(t)
	for _, memo := range []any{7, map[string]string{"a": "b"}, []string{"", "not a URL"}, ""} {
		run, err := r.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
			ID: "wf-" + testenv.Prefix(t), TaskQueue: r.queue, Memo: map[string]any{handlers.PushMemo: memo},
		}, "counting")
		if err != nil {
			t.Fatal(err)
		}
		r.signal(run, "count", 0)
		if err := run.Get(t.Context(), nil); err != nil {
			t.Errorf("%v: %v", memo, err)
		}
	}
}
