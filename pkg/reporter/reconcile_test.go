package reporter

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// callCounter counts the calls that go to Temporal, by method.
type callCounter struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *callCounter) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	c.mu.Lock()
	c.calls[method[strings.LastIndexByte(method, '/')+1:]]++
	c.mu.Unlock()
	return invoke(ctx, method, req, reply, cc, opts...)
}

// take returns the counts since the last call, and forgets them.
func (c *callCounter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = make(map[string]int)
	delete(calls, "GetSystemInfo")
	return calls
}

// reconciling is a reconciler on a store of its own, and runs that wait.
type reconciling struct {
	rec   *reconciler
	calls *callCounter
	c     client.Client
	store *redisstore.Store
	// prefix is that of the store's keys.
	prefix string
	w      worker.Worker // takes the runs
	runs   []client.WorkflowRun
}

func newReconciling(t *testing.T, runs int, rate float64) *reconciling {
	t.Helper()
	prefix := testenv.Prefix(t)
	store, err := redisstore.Open(t.Context(), testenv.Redis(t).URL(), redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	f := &reconciling{c: testenv.Temporal(t), store: store, prefix: prefix, calls: &callCounter{calls: make(map[string]int)}}
	counted := testenv.TemporalWith(t, client.Options{ConnectionOptions: client.ConnectionOptions{
		DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(f.calls.intercept)},
	}})
	r := New(counted, store, WithReconciler(rate))
	f.rec = &reconciler{r: r, store: store}

	queue := testenv.Prefix(t)
	w := worker.New(f.c, queue, worker.Options{Plugins: []worker.Plugin{New(f.c, store)}})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error { return workflow.Sleep(ctx, time.Hour) }, workflow.RegisterOptions{Name: "sleep"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	f.w = w
	for i := range runs {
		id := fmt.Sprintf("%s-%03d", queue, i)
		for n := 0; i == runs-1 && !due(id, 2); n++ {
			id = fmt.Sprintf("%s-%03d-%d", queue, i, n) // the last one is repaired in round 2
		}
		run, err := f.c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: queue}, "sleep")
		if err != nil {
			t.Fatal(err)
		}
		f.runs = append(f.runs, run)
		t.Cleanup(func() { _ = f.c.TerminateWorkflow(context.Background(), run.GetID(), "", "") })
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		ids, err := f.rec.running(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(ids) == runs {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d runs are there", len(ids), runs)
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.calls.take()
	return f
}

func (f *reconciling) status(t *testing.T, i int) progress.Status {
	t.Helper()
	snap, err := f.store.Snapshot(t.Context(), f.runs[i].GetID())
	if err != nil {
		t.Fatal(err)
	}
	return snap.Status
}

// TestReconcilerCost holds what docs/reconciler.md says against the calls that
// go to Temporal: one for each running workflow and round, and one more for
// each that has ended.
func TestReconcilerCost(t *testing.T) {
	t.Parallel()
	f := newReconciling(t, 12, 1000)
	result, err := f.rec.reconcile(t.Context(), Reconciliation{})
	if err != nil {
		t.Fatal(err)
	}
	if calls := f.calls.take(); !maps.Equal(calls, map[string]int{"DescribeWorkflowExecution": 12}) || result.Calls != 12 || result.Checked != 12 {
		t.Errorf("12 running workflows cost %v, result %+v", calls, result)
	}
	for i := range 3 {
		if err := f.c.TerminateWorkflow(t.Context(), f.runs[i].GetID(), "", ""); err != nil {
			t.Fatal(err)
		}
	}
	if result, err = f.rec.reconcile(t.Context(), result); err != nil {
		t.Fatal(err)
	}
	if calls := f.calls.take(); !maps.Equal(calls, map[string]int{"DescribeWorkflowExecution": 12, "GetWorkflowExecutionHistory": 3}) || result.Closed != 3 {
		t.Errorf("3 ended of 12 cost %v, result %+v", calls, result)
	}
	if result, err = f.rec.reconcile(t.Context(), result); err != nil {
		t.Fatal(err)
	}
	if calls := f.calls.take(); !maps.Equal(calls, map[string]int{"DescribeWorkflowExecution": 9}) || result.Running != 9 || result.Round != 3 {
		t.Errorf("the 9 left cost %v, result %+v", calls, result)
	}
}

// With more workflows than a round may ask for, each round goes on where the
// last one stopped, and those that Temporal lists as closed come first.
func TestReconcilerIsBounded(t *testing.T) {
	t.Parallel()
	f := newReconciling(t, 12, 1)
	last := f.runs[11].GetID()
	if err := f.c.TerminateWorkflow(t.Context(), last, "", ""); err != nil {
		t.Fatal(err)
	}
	// Temporal's list lags.
	deadline := time.Now().Add(30 * time.Second)
	for {
		closed, err := f.rec.recentlyClosed(t.Context(), time.Time{}, func(context.Context) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if closed[last] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("Temporal does not list the closed run")
		}
		time.Sleep(20 * time.Millisecond)
	}
	begin := time.Now()
	result, err := f.rec.reconcile(t.Context(), Reconciliation{})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > reconcileFor+time.Second {
		t.Errorf("the round took %v", took)
	}
	if f.status(t, 11) != progress.StatusTerminated || result.Closed != 1 {
		t.Errorf("the closed run is %s, result %+v", f.status(t, 11), result)
	}
	if result.Calls > 10 || result.Cursor == "" {
		t.Errorf("result = %+v", result)
	}
	// The next round begins behind the cursor.
	ids, err := f.rec.running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if next := after(ids, result.Cursor); next[0] <= result.Cursor || !slices.Contains(next, result.Cursor) {
		t.Errorf("after %s comes %v", result.Cursor, next)
	}
}
