package handlers

import (
	"fmt"
	"hash/fnv"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
)

// The defaults of [Options].
const (
	// DefaultMaxUpdates leaves a run that is advised to continue as new, which
	// Temporal does at 1,800 of 2,000 updates, some time to do so, and its own
	// updates some room.
	DefaultMaxUpdates = 1900
	// DefaultMaxWaiting leaves a run's own updates two of the ten that
	// Temporal lets be in flight.
	DefaultMaxWaiting = 8
)

// Options says how a run can be followed. The zero value of each field is its
// default.
type Options struct {
	// Tags are those of every state.
	Tags []string
	// MaxUpdates is how many waits a run takes in all, MaxWaiting how many at
	// a time. Temporal refuses more than 2,000 and 10, the run's own updates
	// among them. What is refused leaves no trace in the history.
	MaxUpdates, MaxWaiting int
	// DataConverter reads the memo [PushMemo], which the client that started
	// the run has encoded; nil: Temporal's default.
	DataConverter converter.DataConverter
	// Carried are the subscribers of the run that this one continues, as its
	// [Handlers.Carry] returned them; nil: there are none.
	Carried *commonpb.Payload
}

// Handlers lets one run be followed. It belongs to the run's workflow code:
// only its coroutines, of which one runs at a time, use it. It makes no
// command but what waiting updates and subscribers ask for, so histories are
// the same with it and without while nobody follows.
//
// What counts a version decides when an update is answered, and with it what
// is in the history of a run that was followed: its code may count otherwise
// only behind a version of its own (workflow.GetVersion).
type Handlers struct {
	opt   Options
	state State
	// began is the start of the first of the runs that resets have made of
	// each other; the same for all of them, in Unix ms.
	began int64
	// accepted and waiting count the updates.
	accepted, waiting int
	// settling counts who waits for the run's own updates: nobody else may wait.
	settling    int
	subscribers subscribers
	// deliveries tells the subscribers, by webhooks.
	deliveries deliveries
}

// handlersKey finds the handlers in workflow contexts.
type handlersKey struct{}

// NewContext returns a context for which [Install] returns h, or with nil
// installs others.
func NewContext(ctx workflow.Context, h *Handlers) workflow.Context {
	return workflow.WithValue(ctx, handlersKey{}, h)
}

// Install registers the handlers of the run; call it first in the workflow
// function, and [Handlers.Finish] last. Where the plugin has installed them
// already it returns those, and the options are the plugin's. The state is
// then version 1.
func Install(ctx workflow.Context, o Options) (*Handlers, error) {
	if h, _ := ctx.Value(handlersKey{}).(*Handlers); h != nil {
		return h, nil
	}
	if o.MaxUpdates <= 0 {
		o.MaxUpdates = DefaultMaxUpdates
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = DefaultMaxWaiting
	}
	info := workflow.GetInfo(ctx)
	now := workflow.Now(ctx)
	h := &Handlers{opt: o, began: now.UnixMilli(), state: State{
		Started: now.UnixMilli(), Version: 1, Time: now,
		RunID: info.WorkflowExecution.RunID, Chain: info.FirstRunID, Type: info.WorkflowType.Name,
		Tags: slices.Clone(o.Tags),
	}}
	if info.OriginalRunID != "" && info.OriginalRunID != h.state.RunID {
		h.state.Started += afterReset(h.state.RunID)
	}
	err := workflow.SetQueryHandlerWithOptions(ctx, Query, func() (State, error) { return h.state, nil },
		workflow.QueryHandlerOptions{Description: "How far the run is."})
	if err != nil {
		return nil, fmt.Errorf("register the query %s: %w", Query, err)
	}
	err = workflow.SetUpdateHandlerWithOptions(ctx, Update, h.next, workflow.UpdateHandlerOptions{
		Validator:   h.acceptable,
		Description: "Waits until the run is further than the state that is named.",
	})
	if err != nil {
		return nil, fmt.Errorf("register the update %s: %w", Update, err)
	}
	h.deliveries.h = h
	if h.opt.DataConverter == nil {
		h.opt.DataConverter = converter.GetDefaultDataConverter()
	}
	h.deliveries.keep(ctx)
	h.takeCarried(ctx)
	workflow.Go(ctx, h.takeSubscriptions)
	return h, nil
}

// resetSpan is the ms behind the first start within which runs start that
// resets have made.
const resetSpan = 1000

// afterReset sets a run that a reset made apart from the one before, whose
// history, and with it the time of its first task, it repeats: by less than
// resetSpan, which is the same in every replay.
func afterReset(runID string) int64 {
	sum := fnv.New32a()
	sum.Write([]byte(runID))
	return 1 + int64(sum.Sum32()%(resetSpan-1))
}

// State returns how far the run is.
func (h *Handlers) State() State { return h.state }

// Change counts a version, which f may fill: it may set everything from
// Percent to Tags, and pointers and slices are not changed in place. It must
// be called in replays as well, and never by queries or validators. After
// Finish it does nothing.
func (h *Handlers) Change(ctx workflow.Context, f func(*State)) {
	if h.state.Returned != "" {
		return
	}
	s := h.state
	f(&s)
	s.Started, s.RunID, s.Chain, s.Type, s.Returned = h.state.Started, h.state.RunID, h.state.Chain, h.state.Type, ""
	if s.Percent != nil && !(*s.Percent >= 0 && *s.Percent <= 100) {
		s.Percent = h.state.Percent // JSON knows no NaN, and a state must have some
	}
	h.count(ctx, s)
}

func (h *Handlers) count(ctx workflow.Context, s State) {
	s.Version, s.Time = h.state.Version+1, workflow.Now(ctx)
	h.state = s
}

// Finish says that the workflow function returns, and how: with
// [progress.StatusRunning] where it continues as new. It counts a version,
// tells the subscribers unless it continues as new, lets waiting updates go
// and returns when all of that is over, within bounds: Temporal aborts what a
// run that has ended still does. A run that continues as new is not held up,
// since signals for the next one would reach it: that one tells. It does not
// wait for other handlers of the workflow. Only the first call counts.
func (h *Handlers) Finish(ctx workflow.Context, status progress.Status) {
	if h.state.Returned != "" {
		return
	}
	// A run that was canceled lets them go as well.
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	s := h.state
	s.Returned = status
	h.count(ctx, s)
	if status == progress.StatusRunning {
		h.deliveries.closing = true // what would begin now is aborted at once
	} else {
		h.dropUnsubscribed(ctx)
		h.deliveries.finish(ctx)
	}
	// No error: the context is never canceled before.
	_ = workflow.Await(ctx, func() bool { return h.waiting == 0 })
}

// acceptable refuses waits that would never end well. A wait for a version
// that is still to come is not refused: Temporal may have a caller's state
// that a failed workflow task has undone.
func (h *Handlers) acceptable(w Wait) error {
	switch {
	case w.Started < 0 || w.Version < 0:
		return temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("started is %d and version is %d; they must be those of a state, or 0", w.Started, w.Version), RefusedInput, nil)
	case h.ours(w) && w.Started != h.state.Started:
		// Nobody is told a state of the run before as one of this run, and
		// waits that a reset has brought along take nobody's place.
		return temporal.NewApplicationError(
			fmt.Sprintf("the run started at %d, and has been reset since %d-%d; query it", h.state.Started, w.Started, w.Version), RefusedReset)
	case h.newerThan(w):
		// It does not wait, but counts.
	case h.settling > 0:
		return temporal.NewApplicationError("the run waits for its own updates to end; poll", RefusedWaiting)
	case h.waiting >= h.opt.MaxWaiting:
		return temporal.NewApplicationError(
			fmt.Sprintf("%d wait already; share one, or poll", h.waiting), RefusedWaiting)
	}
	if h.accepted >= h.opt.MaxUpdates {
		return temporal.NewApplicationError(
			fmt.Sprintf("the run has taken %d updates; it must continue as new before it takes more, so poll", h.accepted), RefusedTotal)
	}
	return nil
}

// ours reports whether a wait is for this run, or for one whose history it may
// repeat since a reset.
func (h *Handlers) ours(w Wait) bool {
	return w.Started >= h.began && w.Started < h.began+resetSpan
}

// newerThan reports whether a wait is over. The waits in a history that a
// reset has copied name the start of the run that took them: they must wait
// here for as long as they did there. That nobody waits anew for those is for
// acceptable, which replays do not ask.
func (h *Handlers) newerThan(w Wait) bool {
	return !h.ours(w) || h.state.Version > w.Version || h.state.Returned != ""
}

// next answers the update. It sets no timer: whoever waits no longer leaves
// it to the next change.
func (h *Handlers) next(ctx workflow.Context, w Wait) (State, error) {
	h.accepted++
	h.waiting++
	defer func() { h.waiting-- }()
	// A run that is canceled goes on, and may say how it ends.
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if err := workflow.Await(ctx, func() bool { return h.settling > 0 || h.newerThan(w) }); err != nil {
		return State{}, err
	}
	return h.state, nil
}

// StatusOf returns what [Handlers.Finish] takes for a workflow function that
// returned the error.
func StatusOf(err error) progress.Status {
	switch {
	case err == nil:
		return progress.StatusCompleted
	case workflow.IsContinueAsNewError(err):
		return progress.StatusRunning
	case temporal.IsCanceledError(err):
		return progress.StatusCanceled
	}
	return progress.StatusFailed
}
