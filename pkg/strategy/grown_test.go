package strategy_test

import (
	"bytes"
	"context"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/strategy"
)

// A worker that has a query and not the run reads the run's history. What has
// come since the query was made is in it, too, and the SDK takes that for a
// replay that goes another way (TMPRL1100; temporalio/sdk-go#755): the query
// fails, as it does on a worker with many at a time. Neither the run nor who
// follows it may mind.
func TestQueryOfAHistoryThatHasGrown(t *testing.T) {
	t.Parallel()
	eachThat(t, func(a arm) bool { return a.name == strategy.Poll }, func(t *testing.T, w *world) {
		gate, log := newHistoryGate(), &syncBuffer{}
		w.client = testenv.TemporalWith(t, client.Options{
			Logger:            sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(log, nil))),
			ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(gate.intercept)}},
		})
		w.worker()
		v := w.follow("Timed")
		v.counts(1)
		gate.closed.Store(true)
		worker.PurgeStickyWorkflowCache()
		select {
		case <-gate.entered:
		case <-time.After(within):
			t.Fatal("no worker has read the history")
		}
		w.signal(v.id, "do", command{Count: 2})
		eventually(t, "timer", func() bool { return w.events(v.id, enumspb.EVENT_TYPE_TIMER_STARTED) == 2 })
		close(gate.open)
		v.until("the count", counted(2))
		eventually(t, "failed query", func() bool { return strings.Contains(log.String(), "TMPRL1100") })
		v.returns("complete")
		if n := w.events(v.id, enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED); n != 0 {
			t.Errorf("%d tasks have failed", n)
		}
	})
}

// events counts those of a type in the history of the workflow's newest run.
func (w *world) events(id string, kind enumspb.EventType) (n int) {
	w.t.Helper()
	for _, e := range w.history(id) {
		if e.EventType == kind {
			n++
		}
	}
	return n
}

// history returns that of the workflow's newest run.
func (w *world) history(id string) (events []*historypb.HistoryEvent) {
	w.t.Helper()
	it := w.client.GetWorkflowHistory(w.t.Context(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			w.t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// historyGate holds the first read of a history while it is closed.
type historyGate struct {
	closed        atomic.Bool
	entered, open chan struct{}
}

func newHistoryGate() *historyGate {
	return &historyGate{entered: make(chan struct{}), open: make(chan struct{})}
}

func (g *historyGate) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if path.Base(method) == "GetWorkflowExecutionHistory" && g.closed.CompareAndSwap(true, false) {
		close(g.entered)
		select {
		case <-g.open:
		case <-ctx.Done():
		}
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// syncBuffer is a buffer for many goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
