package reporter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// shared is what all tests of the package use: clients, a store, and one
// reconciler on its schedule.
var shared struct {
	once       sync.Once
	client     client.Client
	redis      string
	prefix     string
	store      *redisstore.Store
	reconciler worker.Worker
	queue      string // the reconciler's
	ends       *ends
	updates    *redisstore.Subscription
}

// ends notes which workflows ran on the shared store, and when their closed
// events arrived at a subscriber: the clock of whoever wrote an event says
// nothing of that.
type ends struct {
	mu  sync.Mutex
	ids map[string]map[int64]time.Time // by workflow ID and seq
}

func (s *ends) Message(topic progress.Topic, data []byte) {
	now := time.Now()
	e, err := progress.DecodeEvent(data)
	if err != nil || e.Type != progress.TypeClosed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[topic.Name][e.Seq] = now
}

func (*ends) Resync(progress.Topic) {}

// arrival returns when the event arrived; false: nobody listened.
func (s *ends) arrival(id string, seq int64) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.ids[id][seq]
	return at, ok
}

func quiet() sdklog.Logger {
	return sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 4})))
}

// env is one test's: a task queue of its own on the shared servers.
type env struct {
	t      *testing.T
	client client.Client
	store  *redisstore.Store
	queue  string
}

func newEnv(t *testing.T) *env {
	t.Helper()
	addr := testenv.TemporalAddress(t)
	redis := testenv.Redis(t).URL()
	prefix := testenv.Prefix(t)
	shared.once.Do(func() {
		ctx := context.Background()
		var err error
		if shared.client, err = client.Dial(client.Options{HostPort: addr, Logger: quiet()}); err != nil {
			t.Error(err)
			return
		}
		shared.redis, shared.prefix = redis, prefix
		if shared.store, err = redisstore.Open(ctx, redis, redisstore.Options{Prefix: prefix}); err != nil {
			t.Error(err)
			return
		}
		queue := "reconciler-" + prefix
		rep := reporter.New(shared.client, shared.store, reporter.WithReconciler(200))
		w := worker.New(shared.client, queue, worker.Options{Plugins: []worker.Plugin{rep}})
		if err = w.Start(); err != nil {
			t.Error(err)
			return
		}
		shared.reconciler, shared.queue = w, queue
		if err = reporter.EnsureReconciler(ctx, shared.client, queue, 0); err != nil {
			t.Error(err)
		}
		shared.ends = &ends{ids: make(map[string]map[int64]time.Time)}
		shared.updates = shared.store.Subscribe(shared.ends)
	})
	if shared.reconciler == nil {
		t.Fatal("the shared servers could not be set up")
	}
	return &env{t, shared.client, shared.store, "queue-" + prefix}
}

// stopShared stops what all tests use. Before that it looks at every workflow
// that ran on the shared store once more: late events may have come since its
// test has ended.
func stopShared() error {
	var err error
	if shared.reconciler != nil {
		err = oneEndEach()
		shared.reconciler.Stop()
		_ = shared.client.ScheduleClient().GetHandle(context.Background(), reporter.ReconcilerID(shared.queue)).Delete(context.Background())
	}
	if shared.updates != nil {
		shared.updates.Close()
	}
	if shared.store != nil {
		shared.store.Close()
	}
	if shared.client != nil {
		shared.client.Close()
	}
	return err
}

// oneEndEach returns an error unless, after one more full round of the
// reconciler, each chain that has ended has one closed event, which is its
// last, and none that goes on has any.
func oneEndEach() error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	run, err := shared.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{TaskQueue: shared.queue}, "runcast.Reconciler")
	if err != nil {
		return err
	}
	var round reporter.Reconciliation
	if err := run.Get(ctx, &round); err != nil {
		return fmt.Errorf("the last round: %w", err)
	}
	var errs []error
	for id := range shared.ends.ids {
		view, err := shared.store.Read(ctx, id, 1, 10_000)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var events []progress.Event
		for _, raw := range view.Events {
			e, err := progress.DecodeEvent(raw.Data)
			if err != nil {
				errs = append(errs, err)
			}
			events = append(events, e)
		}
		if err := endsOnce(ctx, id, events); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w:\n%s", id, err, list(events)))
		}
	}
	return errors.Join(errs...)
}

func endsOnce(ctx context.Context, id string, events []progress.Event) error {
	closed := make(map[string]bool)
	for _, e := range events {
		if closed[e.Chain] {
			return fmt.Errorf("event %d comes after the end of its chain", e.Seq)
		}
		closed[e.Chain] = e.Type == progress.TypeClosed
	}
	if len(events) == 0 {
		return nil
	}
	last := events[len(events)-1]
	for chain, yes := range closed {
		if !yes && chain != last.Chain {
			return fmt.Errorf("chain %s has no end", chain)
		}
	}
	d, err := shared.client.DescribeWorkflowExecution(ctx, id, "")
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if open := d.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING; open == closed[last.Chain] {
		return fmt.Errorf("the last chain is closed: %v, and open in Temporal: %v", closed[last.Chain], open)
	}
	return nil
}

// worker starts a worker on the test's queue and stops it with the test.
func (e *env) worker(register func(worker.Registry), opts ...reporter.Option) *reporter.Reporter {
	e.t.Helper()
	rep := reporter.New(e.client, e.store, opts...)
	e.start(worker.Options{Plugins: []worker.Plugin{rep}}, register)
	return rep
}

func (e *env) start(o worker.Options, register func(worker.Registry)) worker.Worker {
	e.t.Helper()
	w := worker.New(e.client, e.queue, o)
	register(w)
	if err := w.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(w.Stop)
	return w
}

// id returns a workflow ID of the test's own.
func (e *env) id() string { return "wf-" + testenv.Prefix(e.t) }

func (e *env) execute(o client.StartWorkflowOptions, wf any, args ...any) client.WorkflowRun {
	e.t.Helper()
	if o.ID == "" {
		o.ID = e.id()
	}
	o.TaskQueue = e.queue
	e.follow(o.ID)
	run, err := e.client.ExecuteWorkflow(e.t.Context(), o, wf, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return run
}

// follow notes the workflow for the checks of its ends.
func (e *env) follow(id string) {
	e.t.Helper()
	if e.store != shared.store {
		return
	}
	shared.ends.mu.Lock()
	if shared.ends.ids[id] == nil {
		shared.ends.ids[id] = make(map[int64]time.Time)
	}
	shared.ends.mu.Unlock()
	if err := shared.updates.Add(e.t.Context(), progress.Topic{Kind: progress.TopicWorkflow, Name: id}); err != nil {
		e.t.Fatal(err)
	}
}

// events returns the workflow's events so far.
func (e *env) events(id string) []progress.Event {
	e.t.Helper()
	view, err := e.store.Read(context.WithoutCancel(e.t.Context()), id, 1, 10_000)
	if err != nil {
		e.t.Fatal(err)
	}
	events := make([]progress.Event, len(view.Events))
	for i, raw := range view.Events {
		if events[i], err = progress.DecodeEvent(raw.Data); err != nil {
			e.t.Fatal(err)
		}
	}
	return events
}

// within is how long a test waits for what must come.
const within = 40 * time.Second

// await returns the workflow's events once they fulfil the condition.
func (e *env) await(id, what string, ok func([]progress.Event) bool) []progress.Event {
	e.t.Helper()
	deadline := time.Now().Add(within)
	for {
		events := e.events(id)
		if ok(events) {
			return events
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("there is no %s; the events are\n%s", what, list(events))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (e *env) awaitClosed(id string) []progress.Event {
	e.t.Helper()
	return e.await(id, "closed event", func(events []progress.Event) bool {
		return len(closedEvents(events)) > 0
	})
}

func closedEvents(events []progress.Event) []progress.Event {
	return only(events, func(e progress.Event) bool { return e.Type == progress.TypeClosed })
}

func only(events []progress.Event, ok func(progress.Event) bool) []progress.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e progress.Event) bool { return !ok(e) })
}

// stepEvents returns the step's statuses with their attempts, in order.
func stepEvents(events []progress.Event, step string) []string {
	var list []string
	for _, e := range events {
		if e.Type == progress.TypeStep && e.Step == step {
			list = append(list, fmt.Sprintf("%s %d", e.Status, e.Attempt))
		}
	}
	return slices.Compact(list)
}

func list(events []progress.Event) string {
	var b strings.Builder
	for _, e := range events {
		body, _ := e.AppendBody(nil)
		fmt.Fprintf(&b, "%d lost=%d %s\n", e.Seq, e.Lost, body)
	}
	return b.String()
}

// contiguous fails unless the events are 1, 2, 3 ... of one epoch.
func (e *env) contiguous(events []progress.Event) {
	e.t.Helper()
	for i, ev := range events {
		if ev.Seq != int64(i+1) || ev.Epoch != events[0].Epoch {
			e.t.Errorf("event %d has seq %d, epoch %d", i, ev.Seq, ev.Epoch)
		}
	}
}

// theEnd waits until the chain is closed and holds the closed event against
// what Temporal says: there is one, with the status, and it arrived in time.
func (e *env) theEnd(id string, status progress.Status, limit time.Duration) progress.Event {
	e.t.Helper()
	events := e.awaitClosed(id)
	closed := closedEvents(events)
	if len(closed) != 1 {
		e.t.Fatalf("there are %d closed events:\n%s", len(closed), list(events))
	}
	if closed[0].Status != status {
		e.t.Errorf("closed with status %q, want %q", closed[0].Status, status)
	}
	if closed[0].Seq != int64(len(events)) {
		e.t.Errorf("there are events after closed:\n%s", list(events))
	}
	e.contiguous(events)
	e.inTime(closed[0], limit)
	return closed[0]
}

// inTime fails unless the closed event has arrived soon enough after its run
// ended, by Temporal's clock.
func (e *env) inTime(closed progress.Event, limit time.Duration) {
	e.t.Helper()
	d, err := e.client.DescribeWorkflowExecution(context.WithoutCancel(e.t.Context()), closed.WorkflowID, closed.RunID)
	if err != nil {
		e.t.Fatal(err)
	}
	e.arrivedAfter(closed, d.GetWorkflowExecutionInfo().GetCloseTime().AsTime(), limit)
}

// arrivedAfter fails unless the event arrived soon enough after the time.
func (e *env) arrivedAfter(closed progress.Event, since time.Time, limit time.Duration) {
	e.t.Helper()
	at, ok := time.Now(), true // polled just now, where nobody listens
	if e.store == shared.store {
		for deadline := at.Add(time.Second); ; time.Sleep(time.Millisecond) {
			if at, ok = shared.ends.arrival(closed.WorkflowID, closed.Seq); ok || time.Now().After(deadline) {
				break
			}
		}
	}
	if !ok {
		e.t.Errorf("no subscriber has received %s's end", closed.RunID)
	} else if took := at.Sub(since); took > limit {
		e.t.Errorf("the closed event arrived %v after the end, want %v", took, limit)
	}
}
