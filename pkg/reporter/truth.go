package reporter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/runcast/runcast/internal/closeevent"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
)

// outcome is how a run ended, as Temporal tells it.
type outcome struct {
	// status is empty while the run, or its successor, goes on.
	status  progress.Status
	message string
	// successor is the run that goes on with the chain; empty: there is none.
	successor string
	// run is the chain's newest run, which the end is of; empty: the one that
	// was asked for.
	run string
	// began is about when that run began, by Temporal's clock: behind all tasks
	// of the runs before it, those of earlier chains too. The zero time: not
	// known.
	began time.Time
	// first is Temporal's name of the chain, its first run's ID; empty where
	// the server does not tell. runs are those that were looked at.
	first string
	runs  []string
}

// has reports whether the run is one of the chain's.
func (o *outcome) has(id *identity) bool {
	return slices.Contains(o.runs, id.runID) || o.first != "" && o.first == id.first
}

// closeEvent returns how the run ended. With wait it long-polls until the run
// has ended, or ctx.
func (r *Reporter) closeEvent(ctx context.Context, workflowID, runID string, wait bool) (outcome, error) {
	it := r.client.GetWorkflowHistory(ctx, workflowID, runID, wait, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			return outcome{}, fmt.Errorf("ask Temporal how the run ended: %w", err)
		}
		if end, ok := closeevent.Of(e); ok {
			return outcome{status: end.Status, message: end.Message, successor: end.Successor}, nil
		}
	}
	return outcome{}, errors.New("ask Temporal how the run ended: there is no close event")
}

// hopsMax bounds how many successors are followed at a time.
const hopsMax = 100

// chainOutcome follows the run to the end of its chain. Its status is empty
// while the chain goes on, and unknown when Temporal does not know the run.
// It costs one call while the run goes on, and two when it was the chain's
// last. From an earlier one it goes to the newest run at once, however many
// lie between, unless that is another chain's: then it follows one by one.
// calls, when not nil, is called before each.
func (r *Reporter) chainOutcome(ctx context.Context, workflowID, runID string, calls func(context.Context) error) (outcome, error) {
	if calls == nil {
		calls = func(context.Context) error { return nil }
	}
	chain := outcome{}
	ask := runID  // empty: the newest
	next := runID // the run to go on with if the newest is not of the chain
	for range hopsMax {
		if err := calls(ctx); err != nil {
			return outcome{}, err
		}
		d, err := r.client.DescribeWorkflowExecution(ctx, workflowID, ask)
		var notFound *serviceerror.NotFound
		switch {
		case errors.As(err, &notFound):
			return outcome{status: progress.StatusUnknown, message: "Temporal does not know the run any more", runs: chain.runs}, nil
		case err != nil:
			return outcome{}, fmt.Errorf("ask Temporal for the run: %w", err)
		}
		info := d.GetWorkflowExecutionInfo()
		if ask == "" && info.GetFirstRunId() != chain.first {
			ask = next
			continue
		}
		chain.first = info.GetFirstRunId()
		chain.run = info.GetExecution().GetRunId()
		chain.runs = append(chain.runs, chain.run)
		if began := info.GetStartTime().AsTime(); chain.run == runID {
			// Not later than its own first task.
			chain.began = began.Truncate(time.Millisecond)
		} else {
			chain.began = latest(chain.began, began)
		}
		switch info.GetStatus() {
		case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED, enumspb.WORKFLOW_EXECUTION_STATUS_UNSPECIFIED:
			return chain, nil
		}
		next = d.GetWorkflowExtendedInfo().GetResetRunId()
		if next == "" {
			if err := calls(ctx); err != nil {
				return outcome{}, err
			}
			o, err := r.closeEvent(ctx, workflowID, chain.run, false)
			if err != nil {
				return outcome{}, err
			}
			if o.successor == "" {
				chain.status, chain.message = o.status, o.message
				return chain, nil
			}
			next = o.successor
		}
		chain.began = latest(chain.began, info.GetCloseTime().AsTime())
		if ask = next; ask != "" && chain.first != "" && len(chain.runs) == 1 {
			ask = ""
		}
	}
	return outcome{}, errors.New("ask Temporal for the run: its chain has too many runs to follow at once")
}

// latest returns the later of a time of the chain and t, which is moved to
// the next full millisecond: run times are compared in these.
func latest(a, t time.Time) time.Time {
	if t = t.Truncate(time.Millisecond).Add(time.Millisecond); t.After(a) {
		return t
	}
	return a
}

// closeChain returns how the chain that the snapshot shows has ended; then it
// is closed in the store too, unless there is an error. It says nothing of a
// chain that goes on, whose status is empty.
func (r *Reporter) closeChain(ctx context.Context, snap *progress.Snapshot, calls func(context.Context) error) (outcome, error) {
	o, err := r.chainOutcome(ctx, snap.WorkflowID, snap.RunID, calls)
	if err != nil || o.status == "" {
		return o, err
	}
	return o, r.closeAs(ctx, snap, o)
}

// closeAs writes the end of the chain that the snapshot shows.
func (r *Reporter) closeAs(ctx context.Context, snap *progress.Snapshot, o outcome) error {
	b := closeBatch(&identity{workflowID: snap.WorkflowID, runID: snap.RunID, chain: snap.Chain}, o)
	err := r.call(ctx, b, b.id.time)
	switch {
	case err == nil:
		r.count.written.Add(1)
	case ended(err), errors.Is(err, progress.ErrUnknownRun), errors.Is(err, redisstore.ErrReopened):
		// Someone else was faster, or a newer run has begun.
		err = nil
	}
	return err
}

// closeBatch returns the end of the chain that the run belongs to. It bears
// the chain's newest run, also where the stream knows no event of it: what is
// still on the way of that run, and of those before, is then refused, and not
// taken for a new chain. It bears a time, too: of a run that was only queued
// the stream knows none, and would take a late event of the chain before for
// a newer run's.
func closeBatch(id *identity, o outcome) *batch {
	if o.run != "" && (o.run != id.runID || id.time.IsZero()) {
		id = &identity{workflowID: id.workflowID, workflowType: id.workflowType, runID: o.run, chain: id.chainID(), first: id.first, time: o.began}
	}
	e := id.event(progress.TypeClosed)
	e.Status = o.status
	if o.status != progress.StatusCompleted {
		e.Error = bounded(o.message, textMax)
	}
	return &batch{id: id, producer: closeProducer(id.runID), number: 1, events: []progress.Event{e}, ends: true}
}

// confirm waits in the background for the run's close event, and writes the
// chain's end behind what is still to be written of the workflow.
func (r *Reporter) confirm(id *identity) {
	if r.client == nil {
		return
	}
	select {
	case r.confirms <- struct{}{}:
	default:
		r.count.unconfirmed.Add(1)
		return
	}
	r.tasks.start(func(ctx context.Context) {
		defer func() { <-r.confirms }()
		ctx, cancel := context.WithTimeout(ctx, r.opt.confirmFor)
		defer cancel()
		o, err := r.closeEvent(ctx, id.workflowID, id.runID, true)
		if err != nil {
			r.count.unconfirmed.Add(1)
			r.opt.logger.Info("the end of a run is left to the reconciler", "workflow_id", id.workflowID, "run_id", id.runID, "error", err)
			return
		}
		if o.status == progress.StatusTerminated {
			// A reset terminates the run, and only Describe names what follows.
			if o, err = r.chainOutcome(ctx, id.workflowID, id.runID, nil); err != nil {
				r.count.unconfirmed.Add(1)
				r.opt.logger.Info("the end of a run is left to the reconciler", "workflow_id", id.workflowID, "run_id", id.runID, "error", err)
			}
			if err != nil || o.status == "" {
				return
			}
		}
		if o.successor == "" {
			r.queue.put(closeBatch(id, o))
		}
	})
}
