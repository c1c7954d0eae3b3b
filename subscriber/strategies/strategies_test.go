package strategies_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/runcast/runcast/internal/choice"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/subscriber/follow"
	"github.com/runcast/runcast/subscriber/hub"
	"github.com/runcast/runcast/subscriber/strategies"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a way to follow workflows that are in memory.
type world struct {
	mu    sync.Mutex
	cond  *sync.Cond
	runs  map[string]progress.Event
	errs  map[string]error // notices, taken once, and refusals
	begun map[string]int
	open  int
}

func newWorld() *world {
	w := &world{runs: make(map[string]progress.Event), errs: make(map[string]error), begun: make(map[string]int)}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *world) Watch(ctx context.Context, id string, after progress.Position) iter.Seq2[progress.Event, error] {
	return func(yield func(progress.Event, error) bool) {
		defer context.AfterFunc(ctx, w.cond.Broadcast)()
		w.mu.Lock()
		w.begun[id]++
		w.open++
		defer func() { w.open--; w.mu.Unlock() }()
		step := func(e progress.Event, err error) bool {
			w.mu.Unlock()
			defer w.mu.Lock()
			return yield(e, err)
		}
		for ctx.Err() == nil {
			e, ok := w.runs[id]
			var notice *follow.Notice
			switch err := w.errs[id]; {
			case errors.As(err, &notice):
				delete(w.errs, id)
				if !step(progress.Event{}, err) {
					return
				}
				continue
			case err != nil:
				step(progress.Event{}, err)
				return
			case !ok:
				step(progress.Event{}, fmt.Errorf("workflow %q: %w", id, progress.ErrNotFound))
				return
			case e.Position() != after:
				after = e.Position()
				if !step(e, nil) || e.Type == progress.TypeClosed {
					return
				}
				continue
			}
			w.cond.Wait()
		}
		step(progress.Event{}, ctx.Err())
	}
}

// reach brings a workflow to a version of its only run.
func (w *world) reach(id string, version int64, typ progress.EventType) {
	e := progress.Event{Epoch: 1000, Seq: version, WorkflowID: id, RunID: "r", Chain: "r", Type: typ, Time: time.Now()}
	if typ == progress.TypeClosed {
		e.Status = progress.StatusCompleted
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs[id] = e
	w.cond.Broadcast()
}

func (w *world) fail(id string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs[id] = err
	w.cond.Broadcast()
}

func (w *world) counts(id string) (begun, open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.begun[id], w.open
}

type service struct {
	*httptest.Server
	poll, update *world
	registry     *prometheus.Registry
	store        *redisstore.Store
	stop         func()
}

const workflowType = "T"

func start(t *testing.T, rules string, change ...func(*strategies.Options)) *service {
	t.Helper()
	s := &service{poll: newWorld(), update: newWorld(), registry: prometheus.NewRegistry()}
	r, err := choice.Parse(rules, choice.Known{Strategies: []string{"redis", "poll", "update"}, Types: []string{workflowType}})
	if err != nil {
		t.Fatal(err)
	}
	s.store, err = redisstore.Open(t.Context(), testenv.Redis(t).URL(), redisstore.Options{Prefix: testenv.Prefix(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	o := strategies.Options{
		Ways: []strategies.Way{
			{Name: "poll", About: "Asks again and again.", Watcher: s.poll},
			{Name: "update", About: "Waits.", Watcher: s.update},
			{Name: "redis", About: "Reads what workers wrote."},
		},
		Store: s.store, Rules: r, Registerer: s.registry,
		TypeOf: func(context.Context, string) (string, error) { return workflowType, nil },
	}
	o.Config.MaxViewers, o.Config.Drain = 1000, 10*time.Millisecond
	for _, f := range change {
		f(&o)
	}
	svc, err := strategies.New(o)
	if err != nil {
		t.Fatal(err)
	}
	svc.Start()
	router := chi.NewRouter()
	router.Mount("/v1/strategies", svc.Handler())
	router.Get("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}).ServeHTTP)
	s.Server = httptest.NewServer(router)
	s.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := svc.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
		s.Close()
		for _, w := range []*world{s.poll, s.update} {
			if _, open := w.counts(""); open != 0 {
				t.Errorf("%d sequences are open after the end", open)
			}
		}
	})
	t.Cleanup(s.stop)
	return s
}

// get asks for a path below /v1/strategies.
func (s *service) get(t *testing.T, path string, change ...func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/strategies"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// frames reads a stream: each call returns the next frame, "kind id data".
func frames(t *testing.T, res *http.Response) func() string {
	t.Helper()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("answered %s: %s", res.Status, body(t, res))
	}
	scan := bufio.NewScanner(res.Body)
	return func() string {
		t.Helper()
		var kind, id, data string
		for scan.Scan() {
			name, value, _ := strings.Cut(scan.Text(), ": ")
			switch name {
			case "event":
				kind = value
			case "id":
				id = value
			case "data":
				data = value
			case "":
				if kind != "" {
					return kind + " " + id + " " + data
				}
			}
		}
		return "over"
	}
}

func expect(t *testing.T, next func() string, want ...string) string {
	t.Helper()
	got := ""
	for _, w := range want {
		if got = next(); !strings.HasPrefix(got, w) {
			t.Fatalf("got %q, want %q", got, w)
		}
	}
	return got
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestList(t *testing.T) {
	s := start(t, "")
	res := s.get(t, "")
	var list struct {
		Strategies []struct{ Name, About, Stream string }
	}
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("answered %s, %v", res.Status, err)
	}
	var names []string
	for _, one := range list.Strategies {
		names = append(names, one.Name)
		if one.About == "" || one.Stream != "/v1/strategies/"+one.Name+"/workflows/{id}/stream" {
			t.Errorf("listed %+v", one)
		}
	}
	if fmt.Sprint(names) != "[poll update redis auto]" {
		t.Errorf("listed %v", names)
	}
	if res := s.get(t, "?x=1"); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a parameter that is none: %s", res.Status)
	}
}

// The same frames, and the same parameters, as a subscriber's streams.
func TestStream(t *testing.T) {
	s := start(t, "")
	s.poll.reach("a/b", 3, progress.TypeProgress)
	res := s.get(t, "/poll/workflows/a%2Fb/stream")
	if got := res.Header.Get("Runcast-Strategy"); got != "poll" {
		t.Errorf("the strategy is %q", got)
	}
	next := frames(t, res)
	snap := expect(t, next, "snapshot 1000-3 ")
	if !strings.Contains(snap, `"workflow_id":"a/b"`) || !strings.Contains(snap, `"status":"running"`) {
		t.Errorf("the snapshot is %s", snap)
	}
	s.poll.reach("a/b", 4, progress.TypeProgress)
	expect(t, next, `update 1000-4 {"epoch":1000,"seq":4,`)
	s.poll.reach("a/b", 9, progress.TypeProgress)
	expect(t, next, "snapshot 1000-9 ") // jumped over, and no gap
	if text := body(t, must(s.Client().Get(s.URL+"/metrics"))); !strings.Contains(text, `runcast_strategy_versions_skipped_total{strategy="poll"} 4`+"\n") {
		t.Error("the versions that were jumped over are not counted")
	}
	again := frames(t, s.get(t, "/poll/workflows/a%2Fb/stream?after=1000-9&mode=latest"))
	bad := frames(t, s.get(t, "/poll/workflows/a%2Fb/stream?after=1000-9-01234567"))
	expect(t, bad, `gap  {"from":"1000-9-01234567","to":"1000-9","reason":"bad_position"}`, "snapshot 1000-9 ")
	s.poll.reach("a/b", 10, progress.TypeClosed)
	for _, next := range []func() string{next, again, bad} {
		expect(t, next, "end 1000-10 ", "over")
	}
	// Who has the end has everything; who has nothing gets all of it.
	if res := s.get(t, "/poll/workflows/a%2Fb/stream", func(r *http.Request) { r.Header.Set("Last-Event-ID", "1000-10") }); res.StatusCode != http.StatusNoContent {
		t.Errorf("with the position of the end: %s", res.Status)
	}
	expect(t, frames(t, s.get(t, "/poll/workflows/a%2Fb/stream")), "snapshot 1000-10 ", "end 1000-10 ", "over")
}

func TestBadRequests(t *testing.T) {
	s := start(t, "")
	s.poll.fail("plain", follow.Refuse(errors.New(`workflow type T has no query handler "runcast.progress"`)))
	for _, tt := range []struct {
		path, want string
		status     int
	}{
		{"/pol/workflows/w/stream", `"strategies":["poll","update","redis","auto"]`, 404},
		{"/pol/workflows/w/ws", `use poll, update, redis, auto`, 404},
		{"/poll/workflows/none/stream", `workflow \"none\": not found`, 404},
		{"/poll/workflows/plain/stream", `no query handler \"runcast.progress\"`, 409},
		{"/poll/workflows/w/stream?modus=latest", "unknown parameter", 400},
		{"/poll/workflows/w/stream?mode=some", "unknown mode", 400},
		{"/poll/workflows/w/ws", "WebSocket", 426},
	} {
		res := s.get(t, tt.path)
		text := body(t, res)
		if res.StatusCode != tt.status || !strings.Contains(text, tt.want) || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %s %s, want %d and %q", tt.path, res.Status, text, tt.status, tt.want)
		}
	}
	if begun, _ := s.poll.counts("none"); begun != 1 {
		t.Errorf("a workflow that there is not was asked for %d times", begun)
	}
}

// A hundred viewers of one workflow are one upstream, which ends after them.
func TestOneUpstream(t *testing.T) {
	s := start(t, "", func(o *strategies.Options) { o.Config.Linger = 10 * time.Millisecond })
	s.poll.reach("w", 1, progress.TypeProgress)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	with := func(r *http.Request) { *r = *r.WithContext(ctx) }
	var streams []func() string
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			next := frames(t, s.get(t, "/poll/workflows/w/stream", with))
			mu.Lock()
			defer mu.Unlock()
			streams = append(streams, next)
		})
	}
	wg.Wait()
	for _, next := range streams {
		expect(t, next, "snapshot 1000-1 ")
	}
	s.poll.reach("w", 2, progress.TypeProgress)
	for _, next := range streams {
		expect(t, next, "update 1000-2 ")
	}
	if begun, open := s.poll.counts("w"); begun != 1 || open != 1 {
		t.Errorf("begun %d times, %d open", begun, open)
	}
	text := body(t, must(s.Client().Get(s.URL+"/metrics")))
	for _, want := range []string{
		`runcast_strategy_viewers{strategy="poll",transport="sse"} 100`,
		`runcast_strategy_upstreams{strategy="poll"} 1`,
		`runcast_strategy_upstreams_begun_total{strategy="poll"} 1`,
		`runcast_strategy_deliveries_total{strategy="poll"} 200`,
		`runcast_strategy_viewers{strategy="redis",transport="sse"} 0`,
		`runcast_strategy_event_latency_seconds_count{strategy="poll"}`,
		`runcast_strategy_gaps_total{reason="stale",strategy="update"} 0`,
		`runcast_strategy_notices_total{kind="stale",strategy="poll"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "runcast_strategy_") && !strings.Contains(line, `strategy="`) {
			t.Errorf("a metric without its strategy: %s", line)
		}
	}
	cancel()
	eventually(t, "the upstream ends", func() bool { _, open := s.poll.counts("w"); return open == 0 })
}

func must(res *http.Response, err error) *http.Response {
	if err != nil {
		panic(err)
	}
	return res
}

func TestStale(t *testing.T) {
	s := start(t, "")
	s.poll.reach("w", 1, progress.TypeProgress)
	early := frames(t, s.get(t, "/poll/workflows/w/stream"))
	expect(t, early, "snapshot 1000-1 ")
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s.poll.fail("w", &follow.Notice{Notice: hub.Notice{Kind: hub.ReasonStale, Since: since, Detail: "no worker answers"}})
	const want = `"to":"1000-1","reason":"stale","since":"2026-01-02T03:04:05Z","detail":"no worker answers"}`
	if got := expect(t, early, "gap "); !strings.HasSuffix(got, want) {
		t.Errorf("the gap is %s", got)
	}
	expect(t, early, "snapshot 1000-1 ")
	late := frames(t, s.get(t, "/poll/workflows/w/stream"))
	expect(t, late, "gap ", "snapshot 1000-1 ")
	s.poll.reach("w", 2, progress.TypeProgress)
	expect(t, early, "update 1000-2 ")
	expect(t, late, "update 1000-2 ")
	expect(t, frames(t, s.get(t, "/poll/workflows/w/stream")), "snapshot 1000-2 ")
}

// The same over a WebSocket.
func TestWebSocket(t *testing.T) {
	s := start(t, "")
	s.poll.reach("w", 3, progress.TypeProgress)
	dial := func(query string) *websocket.Conn {
		c, res, err := websocket.Dial(t.Context(), s.URL+"/v1/strategies/poll/workflows/w/ws"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		if got := res.Header.Get("Runcast-Strategy"); got != "poll" {
			t.Errorf("the strategy is %q", got)
		}
		return c
	}
	over := func(c *websocket.Conn) {
		t.Helper()
		if _, text, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Errorf("after the end: %s, %v", text, err)
		}
	}
	c := dial("")
	_, text, err := c.Read(t.Context())
	if err != nil || !strings.HasPrefix(string(text), `{"event":"snapshot","id":"1000-3","data":{`) {
		t.Fatalf("got %s, %v", text, err)
	}
	s.poll.reach("w", 4, progress.TypeClosed)
	if _, text, err = c.Read(t.Context()); err != nil || !strings.HasPrefix(string(text), `{"event":"end","id":"1000-4"`) {
		t.Fatalf("got %s, %v", text, err)
	}
	over(c)
	over(dial("?after=1000-4"))
}

// The places of one strategy are its own.
func TestPlaces(t *testing.T) {
	s := start(t, "", func(o *strategies.Options) { o.Config.MaxViewers = 1 })
	for _, w := range []*world{s.poll, s.update} {
		w.reach("w", 1, progress.TypeProgress)
	}
	expect(t, frames(t, s.get(t, "/poll/workflows/w/stream")), "snapshot")
	res := s.get(t, "/poll/workflows/w/stream")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("beyond the bound: %s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
	}
	next := frames(t, s.get(t, "/update/workflows/w/stream"))
	expect(t, next, "snapshot")
	s.stop()
	expect(t, next, "over")
}

// redis is the store's own streams, with all that it promises. Where nobody
// can be asked, viewers may come before the run.
func TestRedis(t *testing.T) {
	s := start(t, "")
	next := frames(t, s.get(t, "/redis/workflows/w/stream"))
	expect(t, next, "snapshot 0-0 ")
	fence := redisstore.Fence{RunID: "r", Chain: "r", RunTime: time.Now()}
	for i := range 3 {
		e := progress.Event{WorkflowID: "w", RunID: "r", Chain: "r", Type: progress.TypeLog, Time: time.Now(), Message: fmt.Sprint(i)}
		if _, err := s.store.Append(t.Context(), redisstore.Append{WorkflowID: "w", Fence: fence, Events: []progress.Event{e}}); err != nil {
			t.Fatal(err)
		}
	}
	for seq := range 3 {
		got := expect(t, next, "update ")
		if !strings.Contains(got, fmt.Sprintf(`"seq":%d,"check":"`, seq+1)) {
			t.Errorf("event %d is %s", seq+1, got)
		}
	}
}
