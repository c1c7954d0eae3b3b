package apiservice

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/internal/settings"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/httpapi"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/pkg/webhook"
	"github.com/runcast/runcast/workflows"
)

// counted counts the calls of a client by method.
type counted struct {
	mu    sync.Mutex
	calls map[string]int
	err   error // the answer to all calls; nil: Temporal's own
}

func (c *counted) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	c.mu.Lock()
	c.calls[path.Base(method)]++
	err := c.err
	c.mu.Unlock()
	if err != nil {
		return serviceerror.ToStatus(err).Err()
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func (c *counted) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := maps.Clone(c.calls)
	clear(c.calls)
	return taken
}

// failWith has all calls fail from now on; nil: none.
func (c *counted) failWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func sum(calls map[string]int) (n int) {
	for _, k := range calls {
		n += k
	}
	return n
}

// served is the service's strategies on real servers, with a worker that runs
// what the tests follow.
type served struct {
	url    string
	client client.Client
	calls  *counted
	store  *redisstore.Store
	prefix string // of its keys
	keys   webhook.Keys
	queue  string
	names  []string
	// work starts a worker, which stops with the test or when it is told to.
	work       func() (stop func())
	stopWorker func()
}

// held counts what it is told to, returns when that is 0, and fails below.
func held(ctx workflow.Context) error {
	for {
		var n int64
		workflow.GetSignalChannel(ctx, "count").Receive(ctx, &n)
		switch {
		case n == 0:
			return nil
		case n < 0:
			return errors.New("the oven is cold")
		}
		reporter.Workflow(ctx).Count(n, 100)
	}
}

func serveStrategies(t *testing.T, rules string, withPlugin bool) *served {
	t.Helper()
	s := &served{queue: "queue-" + testenv.Prefix(t), client: testenv.Temporal(t), prefix: testenv.Prefix(t)}
	store, err := redisstore.Open(t.Context(), testenv.Redis(t).URL(), redisstore.Options{Prefix: s.prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s.store = store
	o := worker.Options{WorkerStopTimeout: time.Second}
	if withPlugin {
		o.Plugins = []worker.Plugin{reporter.New(s.client, store)}
	}
	if s.keys, err = webhook.ParseKeys(pushSecret); err != nil {
		t.Fatal(err)
	}
	allow, err := webhook.ParseAllow("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := webhook.NewSender(webhook.Options{Keys: s.keys, Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	s.work = func() func() {
		w := worker.New(s.client, s.queue, o)
		w.RegisterWorkflowWithOptions(held, workflow.RegisterOptions{Name: workflows.ProgressiveName})
		w.RegisterWorkflowWithOptions(queryOnly, workflow.RegisterOptions{Name: "QueryOnly"})
		w.RegisterWorkflowWithOptions(limited, workflow.RegisterOptions{Name: "Limited"})
		delivery.New(delivery.Options{Sender: sender}).Register(w)
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		stop := sync.OnceFunc(w.Stop)
		t.Cleanup(stop)
		return stop
	}
	s.stopWorker = s.work()
	return s.serve(t, Config{Strategy: rules})
}

// serve serves the strategies on one more node, by its own hubs.
func (s *served) serve(t *testing.T, c Config) *served {
	t.Helper()
	n := *s
	n.calls = &counted{calls: make(map[string]int)}
	registry := prometheus.NewRegistry()
	theirs := testenv.TemporalWith(t, client.Options{ConnectionOptions: client.ConnectionOptions{
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(n.calls.intercept), newTemporalCalls(registry).dialOption()},
	}})
	c.Drain = 10 * time.Millisecond
	server := httptest.NewUnstartedServer(nil)
	n.url = "http://" + server.Listener.Addr().String()
	receiver, err := strategy.NewReceiver(n.keys, c.callbackURL(server.Listener.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	registry.MustRegister(callbackMetrics(receiver))
	streams, err := c.strategies(theirs, client.Options{}, receiver, n.store, registry, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	streams.Start()
	router := chi.NewRouter()
	router.Mount("/v1/strategies", streams.Handler())
	router.Get("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP)
	router.Handle(httpapi.CallbackPath, receiver)
	server.Config.Handler = router
	server.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := streams.Stop(ctx); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	_, n.names = ways(followers(theirs, client.Options{}, receiver), nil)
	n.calls.take()
	return &n
}

func (s *served) start(t *testing.T) string {
	t.Helper()
	return s.startAs(t, workflows.ProgressiveName)
}

func (s *served) startAs(t *testing.T, name string) string {
	t.Helper()
	id := name + "-" + testenv.Prefix(t)
	if _, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.queue}, name); err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *served) count(t *testing.T, id string, n int64) {
	t.Helper()
	if err := s.client.SignalWorkflow(t.Context(), id, "", "count", n); err != nil {
		t.Fatal(err)
	}
}

// awaitWritten waits until Redis knows a run: before, redis asks Temporal.
func (s *served) awaitWritten(t *testing.T, id string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := s.store.Snapshot(t.Context(), id)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *served) get(t *testing.T, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func (s *served) text(t *testing.T, path string) (int, string) {
	t.Helper()
	res := s.get(t, path)
	if res.Header.Get("Content-Type") == "text/event-stream" {
		return res.StatusCode, "a stream"
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// reads takes a stream's frames until one has the text; it returns the number
// of its ends until then.
func reads(t *testing.T, scan *bufio.Scanner, text string) (ends int) {
	t.Helper()
	for scan.Scan() {
		if scan.Text() == "event: end" {
			ends++
		}
		if strings.HasPrefix(scan.Text(), "data: ") && strings.Contains(scan.Text(), text) {
			return ends
		}
	}
	t.Fatalf("the stream is over before %q", text)
	return 0
}

// A hundred viewers of one workflow cost Temporal what one does, whatever the
// strategy, and by Redis nothing at all. Each sees the progress and one end.
func TestHundredViewersShareOneUpstream(t *testing.T) {
	s := serveStrategies(t, "", true)
	for _, name := range s.names {
		t.Run(name, func(t *testing.T) {
			var cost [2]int
			for try, viewers := range []int{1, 100} {
				id := s.start(t)
				s.count(t, id, 7)
				s.awaitWritten(t, id)
				s.calls.take()
				begin := time.Now()
				streams := make([]*bufio.Scanner, viewers)
				var wg sync.WaitGroup
				for i := range viewers {
					wg.Go(func() {
						res := s.get(t, "/v1/strategies/"+name+"/workflows/"+id+"/stream")
						if got := res.Header.Get("Runcast-Strategy"); res.StatusCode != 200 || got != name {
							t.Errorf("answered %s by %q", res.Status, got)
						}
						streams[i] = bufio.NewScanner(res.Body)
					})
				}
				wg.Wait()
				for _, scan := range streams {
					reads(t, scan, `"current":7`)
				}
				if name == strategy.Redis {
					if n := s.subscribers(t, id); n != 1 {
						t.Errorf("%d viewers are %d subscriptions of Redis", viewers, n)
					}
				}
				s.count(t, id, 8)
				for _, scan := range streams {
					reads(t, scan, `"current":8`)
				}
				s.count(t, id, 0)
				for _, scan := range streams {
					if ends := reads(t, scan, `"type":"closed"`); ends != 1 {
						t.Errorf("%d ends", ends)
					}
					if scan.Scan(); scan.Scan() {
						t.Errorf("after the end came %q", scan.Text())
					}
				}
				calls := s.calls.take()
				t.Logf("%s: %d viewers, %v: %v", name, viewers, time.Since(begin).Round(time.Millisecond), calls)
				cost[try] = sum(calls)
				// A second look, for the time that a hundred take to open.
				seconds := int(time.Since(begin).Seconds()) + 1
				most := 40 + 30*seconds
				if name == strategy.Redis {
					most = 0
				}
				if cost[try] > most {
					t.Errorf("%d viewers cost %d calls: %v", viewers, cost[try], calls)
				}
			}
			_, text := s.text(t, "/metrics")
			if name != strategy.Redis && !strings.Contains(text, fmt.Sprintf("runcast_strategy_upstreams_begun_total{strategy=%q} 2\n", name)) {
				t.Error("not each of the two workflows was followed once")
			}
		})
	}
}

// An unknown workflow is 404 after one describe; one without handlers is a
// clear error.
func TestStrategiesRefuse(t *testing.T) {
	s := serveStrategies(t, "", false)
	id := s.start(t)
	for _, name := range s.names {
		t.Run(name, func(t *testing.T) {
			s.calls.take()
			status, text := s.text(t, "/v1/strategies/"+name+"/workflows/none-"+testenv.Prefix(t)+"/stream")
			if calls := s.calls.take(); status != 404 || sum(calls) != 1 || calls["DescribeWorkflowExecution"] != 1 {
				t.Errorf("an unknown workflow: %d %s after %v", status, text, calls)
			}
			if !strings.Contains(text, ": not found") {
				t.Errorf("an unknown workflow is answered %s", text)
			}
			if name == strategy.Redis {
				return
			}
			status, text = s.text(t, "/v1/strategies/"+name+"/workflows/"+id+"/stream")
			missing := `workflow type ProgressiveWorkflow has no query handler \"runcast.progress\"`
			if name == strategy.Push { // it queries nothing
				missing = `workflow type ProgressiveWorkflow has no signal handler \"runcast.subscribe\"`
			}
			if status != 409 || !strings.Contains(text, missing) {
				t.Errorf("a workflow without handlers: %d %s, want %s", status, text, missing)
			}
		})
	}
	if err := s.client.TerminateWorkflow(t.Context(), id, "", "test"); err != nil {
		t.Error(err)
	}
}

// While no worker answers, viewers are told since when, and so are new ones;
// nothing hangs.
func TestStrategiesStale(t *testing.T) {
	s := serveStrategies(t, "", true)
	id := s.start(t)
	s.count(t, id, 5)
	early := bufio.NewScanner(s.get(t, "/v1/strategies/poll/workflows/"+id+"/stream").Body)
	reads(t, early, `"current":5`)
	s.stopWorker()
	reads(t, early, `"reason":"stale","since":"`)
	reads(t, early, `"current":5`)
	late := bufio.NewScanner(s.get(t, "/v1/strategies/poll/workflows/"+id+"/stream").Body)
	reads(t, late, `"reason":"stale","since":"`)
	reads(t, late, `"current":5`)
	unknown := bufio.NewScanner(s.get(t, "/v1/strategies/adaptive/workflows/"+id+"/stream").Body)
	reads(t, unknown, `"reason":"stale","since":"`)
	s.count(t, id, 6)
	s.work()
	for _, scan := range []*bufio.Scanner{early, late, unknown} {
		reads(t, scan, `"current":6`)
	}
	s.count(t, id, 0)
	for _, scan := range []*bufio.Scanner{early, late, unknown} {
		if ends := reads(t, scan, `"type":"closed"`); ends != 1 {
			t.Errorf("%d ends", ends)
		}
	}
}

// The type is asked for once, and decides.
func TestStrategiesAuto(t *testing.T) {
	s := serveStrategies(t, workflows.ProgressiveName+": poll", true)
	id := s.start(t)
	s.count(t, id, 3)
	for range 5 {
		res := s.get(t, "/v1/strategies/auto/workflows/"+id+"/stream")
		if got := res.Header.Get("Runcast-Strategy"); res.StatusCode != 200 || got != "poll" {
			t.Fatalf("answered %s by %q", res.Status, got)
		}
		reads(t, bufio.NewScanner(res.Body), `"current":3`)
	}
	if status, text := s.text(t, "/v1/strategies/auto/workflows/none-"+id+"/stream"); status != 404 {
		t.Errorf("an unknown workflow: %d %s", status, text)
	}
	s.count(t, id, 0)
}

func TestStrategiesList(t *testing.T) {
	s := serveStrategies(t, "", true)
	status, text := s.text(t, "/v1/strategies")
	var list struct {
		Strategies []struct{ Name, About string }
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || status != 200 {
		t.Fatalf("answered %d %s", status, text)
	}
	if len(list.Strategies) != len(s.names)+1 {
		t.Errorf("listed %+v", list)
	}
	for _, one := range list.Strategies {
		if one.About == "" {
			t.Errorf("nothing is said of %s", one.Name)
		}
	}
	status, text = s.text(t, "/v1/strategies/telepathy/workflows/x/stream")
	if status != 404 || !strings.Contains(text, "poll") || !strings.Contains(text, "auto") {
		t.Errorf("an unknown strategy: %d %s", status, text)
	}
}

// The whole service serves them, and ends its streams when it stops.
func TestServeStrategies(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	addr, ended := make(chan string, 1), make(chan error, 1)
	c := Config{
		Addr: "127.0.0.1:0", TaskQueue: "apiservice-" + t.Name(), MaxBody: 1 << 10,
		Redis: settings.Redis{URL: testenv.Redis(t).URL(), Prefix: testenv.Prefix(t)}, Drain: 10 * time.Millisecond,
	}
	env := settings.Env{"TEMPORAL_ADDRESS": testenv.TemporalAddress(t)}
	go func() { ended <- Serve(ctx, c, env, slog.New(slog.DiscardHandler), func(a string) { addr <- a }) }()
	s := &served{url: "http://" + <-addr}
	store, err := redisstore.Open(t.Context(), c.Redis.URL, redisstore.Options{Prefix: c.Redis.Prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	written(t, store, "w/1")
	res := s.get(t, "/v1/strategies/redis/workflows/w%2F1/stream")
	scan := bufio.NewScanner(res.Body)
	reads(t, scan, `"workflow_id":"w/1"`)
	// A request is counted once its handler has returned, which may be after the
	// first frame.
	eventually(t, "viewer in the metrics", func() bool {
		_, text := s.text(t, "/metrics")
		return strings.Contains(text, `runcast_strategy_viewers{strategy="redis",transport="sse"} 1`) &&
			strings.Contains(text, `route="/v1/strategies/{strategy}/workflows/{id}/stream"`)
	})
	if status, text := s.text(t, "/v1/strategies/x/workflows/w/stream"); status != 404 || !strings.Contains(text, "redis") {
		t.Errorf("an unknown strategy: %d %s", status, text)
	}
	stop()
	for scan.Scan() { // to its end
	}
	if err := <-ended; err != nil {
		t.Errorf("it did not stop in order: %v", err)
	}
}
