package reporter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
)

// ReconcileStore is what the reconciler needs beside [Store];
// redisstore.Store has it.
type ReconcileStore interface {
	Store
	// Running yields the IDs of the workflows whose chain is open.
	Running(ctx context.Context) iter.Seq2[string, error]
	// Repair writes the workflow's indexes anew and renews its expiries.
	Repair(ctx context.Context, workflowID string) error
}

const reconcilerOverlap = enumspb.SCHEDULE_OVERLAP_POLICY_SKIP

const (
	// ReconcileEvery is how often the reconciler runs by default.
	ReconcileEvery = 10 * time.Second

	// reconcileFor bounds one round, so that it ends before the next begins.
	reconcileFor = 8 * time.Second
	// runningMax bounds how many running workflows one round knows of.
	runningMax = 200_000
	// beatEvery is how often a round says that it goes on, and deadAfter how
	// long it may be silent: then its worker is gone, and another takes over.
	beatEvery = 500 * time.Millisecond
	deadAfter = 2 * time.Second
	// repairEvery is how many rounds pass between two repairs of the indexes
	// and expiries of a workflow that goes on.
	repairEvery = 60
)

// Reconciliation says what one round of the reconciler did.
type Reconciliation struct {
	// Running is how many workflows the store held for running.
	Running int `json:"running"`
	// Checked is how many of them were compared with Temporal, at the cost of
	// Calls calls.
	Checked int `json:"checked"`
	Calls   int `json:"calls"`
	// Closed is how many chains had ended, and were closed.
	Closed   int `json:"closed"`
	Repaired int `json:"repaired"`
	Failed   int `json:"failed"`
	// Cursor is the last ID checked if the round ended before all were; the
	// next round goes on behind it.
	Cursor string `json:"cursor,omitempty"`
	// Round counts from 1.
	Round int `json:"round"`
	// Began is when the round began.
	Began time.Time `json:"began,omitzero"`
}

// ReconcilerID returns the ID of the schedule that runs the reconciler on the
// task queue.
func ReconcilerID(taskQueue string) string { return "runcast-reconciler-" + taskQueue }

// EnsureReconciler makes the Temporal schedule that runs the reconciler on
// the task queue, or brings an existing one in line; every is its interval, 0
// means [ReconcileEvery]. Each task queue has a schedule of its own. Some
// worker of the task queue must use a reporter made with [WithReconciler], and
// all that do must write under one key prefix. A round that is still under way
// keeps the next from starting.
func EnsureReconciler(ctx context.Context, c client.Client, taskQueue string, every time.Duration) error {
	if every <= 0 {
		every = ReconcileEvery
	}
	id := ReconcilerID(taskQueue)
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: every}}}
	action := &client.ScheduleWorkflowAction{
		ID: id, Workflow: reconcilerWorkflow, TaskQueue: taskQueue,
		WorkflowRunTimeout: time.Minute,
	}
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: id, Spec: spec, Action: action,
		Overlap:       reconcilerOverlap,
		CatchupWindow: every,
	})
	if err == nil {
		return nil
	}
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return fmt.Errorf("create the reconciler's schedule: %w", err)
	}
	err = c.ScheduleClient().GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			s := in.Description.Schedule
			if sameSchedule(&s, every, taskQueue) {
				return nil, temporal.ErrSkipScheduleUpdate
			}
			s.Spec, s.Action = &spec, action
			if s.Policy == nil {
				s.Policy = &client.SchedulePolicies{}
			}
			s.Policy.Overlap, s.Policy.CatchupWindow = reconcilerOverlap, every
			return &client.ScheduleUpdate{Schedule: &s}, nil
		},
	})
	if err != nil {
		return fmt.Errorf("update the reconciler's schedule: %w", err)
	}
	return nil
}

func sameSchedule(s *client.Schedule, every time.Duration, taskQueue string) bool {
	action, ok := s.Action.(*client.ScheduleWorkflowAction)
	return ok && action.TaskQueue == taskQueue && s.Policy != nil && s.Policy.Overlap == reconcilerOverlap &&
		s.Spec != nil && len(s.Spec.Intervals) == 1 && s.Spec.Intervals[0].Every == every
}

// registerReconciler registers the reconciler on a worker that starts.
func (r *Reporter) registerReconciler(o worker.PluginStartWorkerOptions) error {
	store, ok := r.store.(ReconcileStore)
	if !ok {
		return fmt.Errorf("reporter: the store %T cannot list running workflows, which the reconciler needs", r.store)
	}
	if r.client == nil {
		return errors.New("reporter: the reconciler needs a client")
	}
	rec := &reconciler{r: r, store: store}
	o.WorkerRegistry.RegisterWorkflowWithOptions(reconcileWorkflow, workflow.RegisterOptions{Name: reconcilerWorkflow})
	o.WorkerRegistry.RegisterActivityWithOptions(rec.reconcile, activity.RegisterOptions{Name: reconcilerActivity})
	return nil
}

// reconcileWorkflow is one round. It takes over from the last one's result
// where it stopped.
func reconcileWorkflow(ctx workflow.Context) (Reconciliation, error) {
	var last Reconciliation
	if workflow.HasLastCompletionResult(ctx) {
		if err := workflow.GetLastCompletionResult(ctx, &last); err != nil {
			last = Reconciliation{}
		}
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    reconcileFor + 2*time.Second,
		ScheduleToCloseTimeout: 30 * time.Second,
		HeartbeatTimeout:       deadAfter,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumAttempts: 2},
	})
	var result Reconciliation
	err := workflow.ExecuteActivity(ctx, reconcilerActivity, last).Get(ctx, &result)
	return result, err
}

type reconciler struct {
	r     *Reporter
	store ReconcileStore
}

// reconcile compares what the store holds for running with Temporal. It ends
// in time even when Temporal is slow; the next round goes on from there.
func (rec *reconciler) reconcile(ctx context.Context, last Reconciliation) (Reconciliation, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileFor)
	defer cancel()
	if activity.IsActivity(ctx) {
		var beating sync.WaitGroup
		beating.Go(func() { beat(ctx) })
		defer beating.Wait()
		defer cancel()
	}
	result := Reconciliation{Round: last.Round + 1, Began: time.Now()}
	ids, err := rec.running(ctx)
	if err != nil {
		return result, err
	}
	result.Running = len(ids)
	limit := newLimiter(rec.r.opt.rate)
	calls := func(ctx context.Context) error {
		result.Calls++
		return limit.wait(ctx)
	}
	ids = after(ids, last.Cursor)
	var closed map[string]bool
	if float64(len(ids)) > rec.r.opt.rate*reconcileFor.Seconds() {
		// More than one round can ask for. Those that Temporal lists as closed
		// come first; the list may lag, so the others have their turn too.
		closed, err = rec.recentlyClosed(ctx, last.Began, calls)
		if err != nil {
			rec.r.opt.logger.Warn("Temporal does not list what has closed", "error", err)
		}
		for _, id := range ids {
			if closed[id] {
				rec.checkAndCount(ctx, id, calls, &result)
			}
		}
	}
	for i, id := range ids {
		if !closed[id] { // or it has been checked
			rec.checkAndCount(ctx, id, calls, &result)
		}
		if ctx.Err() != nil {
			result.Cursor = last.Cursor
			if i > 0 {
				result.Cursor = ids[i-1]
			}
			break
		}
	}
	return result, nil
}

// beat says that the round goes on, until ctx ends.
func beat(ctx context.Context) {
	for {
		activity.RecordHeartbeat(ctx)
		if !sleep(ctx, beatEvery) {
			return
		}
	}
}

// running lists the workflows to look at, in order. A part of the list that
// cannot be read leaves the rest; it is an error when there is none.
func (rec *reconciler) running(ctx context.Context) ([]string, error) {
	var ids []string
	var failed error
	for id, err := range rec.store.Running(ctx) {
		if err != nil {
			failed = err
			continue
		}
		if ids = append(ids, id); len(ids) == runningMax {
			break
		}
	}
	if failed != nil && len(ids) == 0 {
		return nil, fmt.Errorf("list the running workflows: %w", failed)
	} else if failed != nil {
		rec.r.opt.logger.Warn("a part of the running workflows cannot be listed", "listed", len(ids), "error", failed)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// after returns the sorted IDs beginning behind the cursor, and then those up
// to it.
func after(ids []string, cursor string) []string {
	start, found := slices.BinarySearch(ids, cursor)
	if found {
		start++
	}
	return slices.Concat(ids[start:], ids[:start])
}

const (
	// lag is how long Temporal's list of closed runs may take to show one.
	lag = time.Minute
	// closedPages bounds the pages of that list which one round reads.
	closedPages = 20
)

// recentlyClosed returns the IDs of the workflows of which a run has closed
// since about the last round.
func (rec *reconciler) recentlyClosed(ctx context.Context, since time.Time, calls func(context.Context) error) (map[string]bool, error) {
	if since.IsZero() {
		since = time.Now()
	}
	query := fmt.Sprintf("ExecutionStatus != 'Running' AND CloseTime > '%s'", since.Add(-lag).UTC().Format(time.RFC3339))
	closed := make(map[string]bool)
	var next []byte
	for range closedPages {
		if err := calls(ctx); err != nil {
			return closed, err
		}
		page, err := rec.r.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: 1000, NextPageToken: next})
		if err != nil {
			return closed, err
		}
		for _, e := range page.GetExecutions() {
			closed[e.GetExecution().GetWorkflowId()] = true
		}
		if next = page.GetNextPageToken(); len(next) == 0 {
			break
		}
	}
	return closed, nil
}

// checkAndCount leaves a workflow that cannot be checked to the next round.
func (rec *reconciler) checkAndCount(ctx context.Context, id string, calls func(context.Context) error, result *Reconciliation) {
	if ctx.Err() != nil {
		return
	}
	if err := rec.check(ctx, id, calls, result); err != nil && ctx.Err() == nil {
		result.Failed++
		rec.r.opt.logger.Warn("a running workflow could not be compared with Temporal", "workflow_id", id, "error", err)
	}
}

// check closes the workflow's chain if Temporal says that it has ended.
func (rec *reconciler) check(ctx context.Context, id string, calls func(context.Context) error, result *Reconciliation) error {
	snap, err := rec.store.Snapshot(ctx, id)
	switch {
	case errors.Is(err, progress.ErrNotFound):
		result.Repaired++
		return rec.store.Repair(ctx, id) // only the index knows it
	case err != nil:
		return err
	}
	result.Checked++
	repair := snap.Closed() || due(id, result.Round)
	if !snap.Closed() && snap.RunID != "" {
		o, err := rec.r.chainOutcome(ctx, id, snap.RunID, calls)
		if err != nil {
			return err
		}
		if o.status != "" {
			// It may have reports on the way, of this worker.
			rec.r.settling.wait(ctx, id, time.Time{}, makeWayFor)
			rec.r.queue.wait(ctx, id, makeWayFor)
			if err := rec.r.closeAs(ctx, &snap, o); err != nil {
				return err
			}
			result.Closed++
		}
	}
	if repair {
		result.Repaired++
		return rec.store.Repair(ctx, id)
	}
	return nil
}

// due spreads the repairs of workflows that go on over many rounds.
func due(id string, round int) bool {
	sum := 0
	for _, c := range []byte(id) {
		sum = (sum*31 + int(c)) % repairEvery
	}
	return sum == round%repairEvery
}

// limiter spaces calls evenly.
type limiter struct {
	every time.Duration
	next  time.Time
}

func newLimiter(perSecond float64) *limiter {
	return &limiter{every: time.Duration(float64(time.Second) / perSecond)}
}

func (l *limiter) wait(ctx context.Context) error {
	now := time.Now()
	if d := l.next.Sub(now); d > 0 {
		if !sleep(ctx, d) {
			return ctx.Err()
		}
		now = l.next
	}
	l.next = now.Add(l.every)
	return nil
}
