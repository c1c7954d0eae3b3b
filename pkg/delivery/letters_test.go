package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/webhook"
)

const secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

func keys(t *testing.T) webhook.Keys {
	t.Helper()
	k, err := webhook.ParseKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// verify checks a webhook with the keys of the URL to which it came.
func verify(t *testing.T, r *http.Request, body []byte) (id string, err error) {
	k, err := keys(t).For("http://" + r.Host + r.URL.Path)
	if err != nil {
		return "", err
	}
	return k.Verify(r.Header, body)
}

func sender(t *testing.T) *webhook.Sender {
	t.Helper()
	allow, err := webhook.ParseAllow("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s, err := webhook.NewSender(webhook.Options{Keys: keys(t), Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// onBoth runs a test on a real Redis and on the embedded one, which have
// Luas of their own.
func onBoth(t *testing.T, f func(t *testing.T, c redis.UniversalClient)) {
	for name, addr := range map[string]func(*testing.T) string{
		"redis":    func(t *testing.T) string { return testenv.Redis(t).Addr },
		"embedded": func(t *testing.T) string { return testenv.Mini(t).Addr() },
	} {
		t.Run(name, func(t *testing.T) {
			c := redis.NewClient(&redis.Options{Addr: addr(t)})
			t.Cleanup(func() { c.Close() })
			f(t, c)
		})
	}
}

func letters(t *testing.T, c redis.UniversalClient, o LetterOptions) *Letters {
	o.Prefix = testenv.Prefix(t)
	return NewLetters(c, o)
}

// endpointServer is a receiver that notes which messages came, and answers with
// a status that tests change.
type endpointServer struct {
	*httptest.Server
	mu     sync.Mutex
	ids    []string
	uris   []string
	status int
	header http.Header
	// hold, where it is set, keeps answers back until it is closed.
	hold chan struct{}
}

func receive(t *testing.T, status int) *endpointServer {
	t.Helper()
	e := &endpointServer{status: status}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id, err := verify(t, r, body)
		if err != nil {
			t.Error(err)
		}
		e.mu.Lock()
		e.ids, e.uris = append(e.ids, id), append(e.uris, r.RequestURI)
		status, header, hold := e.status, e.header, e.hold
		e.mu.Unlock()
		if hold != nil {
			<-hold
		}
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpointServer) answer(status int, header http.Header) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.header = status, header
}

func (e *endpointServer) got() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.ids)
}

// asked returns the paths and queries of what came.
func (e *endpointServer) asked() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.uris)
}

func ids(list []webhook.Letter) string {
	var all []string
	for _, letter := range list {
		all = append(all, letter.ID)
	}
	return strings.Join(all, " ")
}

func TestLettersInPages(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l := letters(t, c, LetterOptions{})
		at := time.UnixMilli(1_764_000_000_000)
		l.now = func() time.Time { return at }
		var want []string
		for n := range 23 {
			id := fmt.Sprintf("msg_%02d", n)
			// Many within one millisecond, so that a page ends among them.
			at = time.UnixMilli(1_764_000_000_000 + int64(n/9))
			if err := l.Bury(t.Context(), webhook.Letter{ID: id, URL: "http://x.example", Body: []byte("{}"), Reason: "why", Attempts: 5, Last: at}); err != nil {
				t.Fatal(err)
			}
			want = append(want, id)
		}
		slices.Reverse(want)
		for _, limit := range []int{1, 4, 5, 22, 23, 24, 1000} {
			var got []webhook.Letter
			for cursor := ""; ; {
				page, next, err := l.List(t.Context(), cursor, limit)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) > limit {
					t.Errorf("a page of %d has %d", limit, len(page))
				}
				got = append(got, page...)
				if cursor = next; next == "" {
					break
				}
			}
			if ids(got) != strings.Join(want, " ") {
				t.Errorf("in pages of %d:\n got %s\nwant %s", limit, ids(got), strings.Join(want, " "))
			}
		}
		page, _, err := l.List(t.Context(), "", 1)
		if err != nil {
			t.Fatal(err)
		}
		first := page[0]
		if first.Body != nil || first.URL != "http://x.example" || first.Reason != "why" || first.Attempts != 5 || !first.Last.Equal(at) || !first.Time.Equal(at) {
			t.Errorf("%+v", first)
		}
		for _, bad := range []string{"x", "-", "1-", "-1-a", "1e3-a", "99999999999999999999-a"} {
			if _, _, err := l.List(t.Context(), bad, 1); !errors.Is(err, progress.ErrInvalid) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
		if err := l.Remove(t.Context(), "msg_03"); err != nil {
			t.Error(err)
		}
		if err := l.Remove(t.Context(), "msg_03"); !errors.Is(err, progress.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
	})
}

func TestLettersAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l := letters(t, c, LetterOptions{Max: 3, Keep: time.Hour})
		at := time.Now().Add(-30 * time.Minute)
		l.now = func() time.Time { return at }
		for n := range 5 {
			at = at.Add(time.Second)
			for range 2 { // a call may be repeated
				if err := l.Bury(t.Context(), webhook.Letter{ID: fmt.Sprint(n), URL: "http://x.example"}); err != nil {
					t.Fatal(err)
				}
			}
		}
		page, _, err := l.List(t.Context(), "", 10)
		if err != nil || ids(page) != "4 3 2" {
			t.Errorf("%s, %v", ids(page), err)
		}
		if n := l.evicted.Load(); n != 2 {
			t.Errorf("%d are counted as gone", n)
		}
		keys, err := c.Keys(t.Context(), l.base+"*").Result()
		if err != nil || len(keys) != 5 {
			t.Errorf("%q, %v", keys, err)
		}
		for _, key := range keys {
			if ttl := c.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour {
				t.Errorf("%s expires in %v", key, ttl)
			}
		}
		// One that has expired is no hole in the list, and leaves the index.
		c.Del(t.Context(), l.letter("3"))
		if page, _, err = l.List(t.Context(), "", 10); err != nil || ids(page) != "4 2" {
			t.Errorf("%s, %v", ids(page), err)
		}
		at = at.Add(59*time.Minute + 59*time.Second)
		if err := l.Bury(t.Context(), webhook.Letter{ID: "new", URL: "http://x.example"}); err != nil {
			t.Fatal(err)
		}
		if all := c.ZRange(t.Context(), l.base, 0, -1).Val(); strings.Join(all, " ") != "4 new" {
			t.Errorf("the index holds %q", all)
		}
	})
}

func TestReplay(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l, s, e := letters(t, c, LetterOptions{}), sender(t), receive(t, 503)
		if err := l.Bury(t.Context(), webhook.Letter{ID: "msg_a", URL: e.URL, Body: []byte(`{"n":1}`), Attempts: 5}); err != nil {
			t.Fatal(err)
		}
		var refused *webhook.Error
		if err := l.Replay(t.Context(), s, "msg_a"); !errors.As(err, &refused) || refused.Status != 503 {
			t.Fatalf("an endpoint that is still dead: %v", err)
		}
		page, _, err := l.List(t.Context(), "", 10)
		if err != nil || len(page) != 1 || page[0].Attempts != 6 || !strings.Contains(page[0].Reason, "503") {
			t.Fatalf("%+v, %v", page, err)
		}
		e.answer(204, nil)
		if err := l.Replay(t.Context(), s, "msg_a"); err != nil {
			t.Fatal(err)
		}
		if err := l.Replay(t.Context(), s, "msg_a"); !errors.Is(err, progress.ErrNotFound) {
			t.Errorf("replayed once more: %v", err)
		}
		if got := e.got(); strings.Join(got, " ") != "msg_a msg_a" {
			t.Errorf("sent as %q", got)
		}
		if keys := c.Keys(t.Context(), l.base+"*").Val(); len(keys) != 0 {
			t.Errorf("%q is left", keys)
		}
		if err := l.Replay(t.Context(), s, "never"); !errors.Is(err, progress.ErrNotFound) {
			t.Errorf("one that never was: %v", err)
		}
	})
}

// A list shows no token, and a replay needs it.
func TestListsShowNoToken(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l, s, e := letters(t, c, LetterOptions{}), sender(t), receive(t, 503)
		const query = "?run=42&token=s3cret"
		if err := l.Bury(t.Context(), webhook.Letter{ID: "msg_a", URL: e.URL + "/hook" + query, Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		var refused *webhook.Error
		if err := l.Replay(t.Context(), s, "msg_a"); !errors.As(err, &refused) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v", err)
		}
		page, _, err := l.List(t.Context(), "", 1)
		if err != nil || len(page) != 1 || page[0].URL != e.URL+"/hook?run=…&token=…" || strings.Contains(fmt.Sprintf("%+v", page), "s3cret") {
			t.Errorf("%+v, %v", page, err)
		}
		// By hand people look at what is paused.
		if shown := c.HGet(t.Context(), l.endpoint(e.URL+"/hook"+query), "url").Val(); shown != page[0].URL {
			t.Errorf("the endpoint is %q", shown)
		}
		e.answer(204, nil)
		if err := l.Replay(t.Context(), s, "msg_a"); err != nil {
			t.Fatal(err)
		}
		if got := e.asked(); strings.Join(got, " ") != "/hook"+query+" /hook"+query {
			t.Errorf("sent to %q", got)
		}
	})
}

// A letter that cannot be read was not sent: nothing is noted of an attempt, and
// the next who comes may try at once.
func TestReplayOfWhatCannotBeRead(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l, s, e := letters(t, c, LetterOptions{}), sender(t), receive(t, 204)
		if err := l.Bury(t.Context(), webhook.Letter{ID: "msg_a", URL: e.URL, Body: []byte(`{}`), Reason: "why", Attempts: 5}); err != nil {
			t.Fatal(err)
		}
		failing := &failingHook{command: "hgetall"}
		c.AddHook(failing)
		failing.on.Store(true)
		if err := l.Replay(t.Context(), s, "msg_a"); !errors.Is(err, progress.ErrUnavailable) {
			t.Errorf("it cannot be read: %v", err)
		}
		failing.on.Store(false)
		if page, _, err := l.List(t.Context(), "", 1); err != nil || len(page) != 1 || page[0].Attempts != 5 || page[0].Reason != "why" {
			t.Errorf("%+v, %v", page, err)
		}
		if err := l.Replay(t.Context(), s, "msg_a"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		for _, id := range []string{"", "a/b", strings.Repeat("x", 1<<20)} {
			for what, err := range map[string]error{"replayed": l.Replay(t.Context(), s, id), "removed": l.Remove(t.Context(), id)} {
				if !errors.Is(err, progress.ErrNotFound) || len(err.Error()) > 300 {
					t.Errorf("%.10q %s: %.300v", id, what, err)
				}
			}
		}
	})
}

// failingHook has one command fail, while it is on.
type failingHook struct {
	command string
	on      atomic.Bool
}

func (*failingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *failingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f.on.Load() && cmd.Name() == f.command {
			cmd.SetErr(errors.New("it fails"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

func (*failingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Of many who replay one letter at once, one sends it.
func TestReplayAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, c redis.UniversalClient) {
		l, s, e := letters(t, c, LetterOptions{}), sender(t), receive(t, 200)
		e.hold = make(chan struct{})
		if err := l.Bury(t.Context(), webhook.Letter{ID: "msg_a", URL: e.URL, Body: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		const many = 8
		results := make(chan error, many)
		for range many {
			go func() { results <- l.Replay(t.Context(), s, "msg_a") }()
		}
		for range many - 1 {
			if err := <-results; !errors.Is(err, webhook.ErrReplaying) {
				t.Errorf("one of the others: %v", err)
			}
		}
		close(e.hold)
		if err := <-results; err != nil {
			t.Error(err)
		}
		if got := e.got(); len(got) != 1 {
			t.Errorf("sent %d times", len(got))
		}
	})
}

// Somebody who hangs up does not undo what was sent.
func TestReplayIsFinished(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
	defer c.Close()
	l, s, e := letters(t, c, LetterOptions{}), sender(t), receive(t, 200)
	e.hold = make(chan struct{})
	if err := l.Bury(t.Context(), webhook.Letter{ID: "msg_a", URL: e.URL, Body: []byte(`{}`)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Replay(ctx, s, "msg_a") }()
	eventually(t, "arrival", func() bool { return len(e.got()) == 1 })
	cancel()
	close(e.hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if page, _, err := l.List(t.Context(), "", 1); err != nil || len(page) != 0 {
		t.Errorf("%v, %v", page, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", what)
		}
	}
}
