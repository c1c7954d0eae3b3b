package strategy_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/pkg/strategy"
)

// within is how long a test waits for what must come.
const within = 90 * time.Second

// world is one test's: a task queue of its own on the shared servers, and a
// client for the strategy alone, whose calls are counted.
type world struct {
	t         *testing.T
	arm       arm
	namespace string
	queue     string
	// client is the tests' and the workers'; theirs is the strategy's.
	client, theirs client.Client
	calls          *callCounter
	// store is nil unless the arm needs Redis: then there is none in the
	// process.
	store    *redisstore.Store
	strategy strategy.Strategy
	// away has the receiver refuse all messages.
	away atomic.Bool
}

func newWorld(t *testing.T, a arm) *world {
	t.Helper()
	return newWorldOn(t, a, testenv.TemporalAddress(t), "default")
}

// newWorldOn makes one on the Temporal server at addr, in a namespace, which
// the arm has to call.
func newWorldOn(t *testing.T, a arm, addr, namespace string) *world {
	t.Helper()
	w := &world{t: t, arm: a, namespace: namespace, queue: "queue-" + testenv.Prefix(t), calls: &callCounter{}}
	o := client.Options{Namespace: namespace, Logger: quiet()}
	w.client = testenv.TemporalAt(t, addr, o)
	o.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(w.calls.intercept)}
	w.theirs = testenv.TemporalAt(t, addr, o)
	w.calls.reset() // connecting is not the strategy's
	if a.redis {
		store, err := redisstore.Open(t.Context(), testenv.Redis(t).URL(), redisstore.Options{Prefix: testenv.Prefix(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		w.store = store
	}
	w.strategy = a.make(w)
	return w
}

func quiet() sdklog.Logger {
	return sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 4})))
}

// worker starts a worker with the plugin, which stops with the test or when
// the returned function is called.
func (w *world) worker(opts ...reporter.Option) (stop func()) {
	w.t.Helper()
	var store reporter.Store
	if w.store != nil {
		store = w.store
	}
	o := worker.Options{Plugins: []worker.Plugin{reporter.New(w.client, store, opts...)}, WorkerStopTimeout: time.Second}
	wk := worker.New(w.client, w.queue, o)
	for name, f := range testWorkflows {
		wk.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: name})
	}
	if w.arm.register != nil {
		w.arm.register(w, wk)
	}
	if err := wk.Start(); err != nil {
		w.t.Fatal(err)
	}
	stop = sync.OnceFunc(wk.Stop)
	w.t.Cleanup(stop)
	return stop
}

// reconciledWorker starts a worker that closes terminated runs in the store,
// where there is one.
func (w *world) reconciledWorker() {
	w.t.Helper()
	if w.store == nil {
		w.worker()
		return
	}
	w.worker(reporter.WithReconciler(200))
	if err := reporter.EnsureReconciler(w.t.Context(), w.client, w.queue, time.Second); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = w.client.ScheduleClient().GetHandle(context.Background(), reporter.ReconcilerID(w.queue)).Delete(context.Background())
	})
}

func (w *world) start(name string, args ...any) string {
	w.t.Helper()
	id := "wf-" + testenv.Prefix(w.t)
	w.startAs(id, name, args...)
	return id
}

func (w *world) startAs(id, name string, args ...any) client.WorkflowRun {
	w.t.Helper()
	run, err := w.client.ExecuteWorkflow(w.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: w.queue}, name, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

func (w *world) signal(id, name string, arg any) {
	w.t.Helper()
	if err := w.client.SignalWorkflow(w.t.Context(), id, "", name, arg); err != nil {
		w.t.Fatal(err)
	}
}

// got is what a sequence yielded next.
type got struct {
	event progress.Event
	err   error
}

// viewer takes a sequence in a goroutine of its own, which ends with it.
type viewer struct {
	t      *testing.T
	world  *world
	id     string   // the workflow's
	items  chan got // closed when the sequence has ended
	cancel context.CancelFunc
	// notices came so far.
	notices []*strategy.Notice
}

func (w *world) watch(id string, after progress.Position) *viewer {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	v := &viewer{t: w.t, world: w, id: id, items: make(chan got, 1000), cancel: cancel}
	seq := w.strategy.Watch(context.WithValue(ctx, caller{}, v), id, after)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(v.items)
		for e, err := range seq {
			v.items <- got{e, err}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	return v
}

// follow starts a workflow and follows it from its beginning.
func (w *world) follow(name string, args ...any) *viewer {
	w.t.Helper()
	return w.watch(w.start(name, args...), progress.Position{})
}

// counts has the workflow count to n, and takes events until that has come.
func (v *viewer) counts(n int64) []progress.Event {
	v.t.Helper()
	v.world.signal(v.id, "do", command{Count: n})
	return v.until("the count", counted(n))
}

// returns has the workflow return, and takes all up to the end.
func (v *viewer) returns(how string) []progress.Event {
	v.t.Helper()
	v.world.signal(v.id, "do", command{Return: how})
	return v.closed()
}

// next returns what comes next; ok is false when the sequence has ended.
func (v *viewer) next() (g got, ok bool) {
	v.t.Helper()
	select {
	case g, ok = <-v.items:
		return g, ok
	case <-time.After(within):
		v.t.Fatal("nothing has come")
		return got{}, false
	}
}

// until takes events until one fulfils the condition, and returns all of
// them. Notices are kept apart.
func (v *viewer) until(what string, ok func(progress.Event) bool) []progress.Event {
	v.t.Helper()
	var events []progress.Event
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		g, more := v.next()
		if !more {
			v.t.Fatalf("the sequence has ended before %s; it had %s", what, list(events))
		}
		if n, isNotice := g.err.(*strategy.Notice); isNotice {
			v.notices = append(v.notices, n)
			continue
		}
		if g.err != nil {
			v.t.Fatalf("before %s: %v", what, g.err)
		}
		if events = append(events, g.event); ok(g.event) {
			return events
		}
	}
	v.t.Fatalf("%s has not come; there were %s", what, list(events))
	return nil
}

// notice takes what comes until a notice of the kind does.
func (v *viewer) notice(kind string) (*strategy.Notice, []progress.Event) {
	v.t.Helper()
	var events []progress.Event
	for {
		g, more := v.next()
		if !more {
			v.t.Fatalf("the sequence has ended before the notice %s", kind)
		}
		n, isNotice := g.err.(*strategy.Notice)
		switch {
		case isNotice && n.Kind == kind:
			return n, events
		case isNotice:
			v.notices = append(v.notices, n)
		case g.err != nil:
			v.t.Fatalf("before the notice %s: %v", kind, g.err)
		default:
			events = append(events, g.event)
		}
	}
}

// closed takes all up to the end of the sequence, which a closed event is,
// once.
func (v *viewer) closed() []progress.Event {
	v.t.Helper()
	events := v.until("the closed event", func(e progress.Event) bool { return e.Type == progress.TypeClosed })
	if g, more := v.next(); more {
		v.t.Errorf("after the closed event came %+v", g)
	}
	return events
}

// failure takes the one error that the sequence consists of.
func (v *viewer) failure() error {
	v.t.Helper()
	g, ok := v.next()
	if !ok || g.err == nil {
		v.t.Fatalf("no error came, but %+v", g.event)
	}
	if more, ok := <-v.items; ok {
		v.t.Errorf("after the error came %+v", more)
	}
	return g.err
}

// rising fails unless the positions of events rise: versions within a run,
// and runs that follow each other.
func rising(t *testing.T, events []progress.Event) {
	t.Helper()
	seen := map[int64]bool{}
	for i, e := range events {
		if i == 0 {
			continue
		}
		before := events[i-1]
		switch {
		case e.Epoch == before.Epoch && e.Seq <= before.Seq:
			t.Errorf("%d-%d comes after %d-%d", e.Epoch, e.Seq, before.Epoch, before.Seq)
		case e.Epoch != before.Epoch && seen[e.Epoch]:
			t.Errorf("the run of %d has come back", e.Epoch)
		}
		seen[before.Epoch] = true
	}
}

func list(events []progress.Event) string {
	var b strings.Builder
	for _, e := range events {
		body, _ := e.AppendBody(nil)
		b.WriteString("\n" + fmt.Sprintf("%d-%d ", e.Epoch, e.Seq) + string(body))
	}
	return b.String()
}

// nothingOpen fails unless, soon, no call is open.
func (w *world) nothingOpen() {
	w.t.Helper()
	eventually(w.t, "end of all calls", func() bool { return w.calls.opened() == 0 })
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", what)
		}
	}
}

// nothingLeft fails unless, soon, no call is open and no goroutine of the
// package runs.
func (w *world) nothingLeft() {
	w.t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		open, left := w.calls.opened(), goroutines()
		if open == 0 && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d calls are open, and there run\n%s", open, strings.Join(left, "\n\n"))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// goroutines returns the stacks of those that run code of the package for a
// sequence.
func goroutines() []string {
	buf := make([]byte, 4<<20)
	var left []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "pkg/strategy.(*watch)") || strings.Contains(stack, "pkg/strategy.watchEach") ||
			strings.Contains(stack, ".Watch.func") {
			left = append(left, stack)
		}
	}
	return left
}
