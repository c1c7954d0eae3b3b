package strategy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	updatepb "go.temporal.io/api/update/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

const (
	// UpdateProbeEvery is how long [LongPolling] waits for a change before it
	// asks whether a worker still answers.
	UpdateProbeEvery = 15 * time.Second
	// UpdateTryAgain is how long it polls at least, where a run refuses an
	// update for the moment, before it tries the next one, less up to a fifth.
	// Each refusal doubles that, up to UpdateTryAgainMax.
	UpdateTryAgain    = 5 * time.Second
	UpdateTryAgainMax = time.Minute
)

// UpdateOptions configures [NewUpdate]. The zero value of each field is its
// default.
type UpdateOptions struct {
	CallOptions
	// PerWatch makes each sequence wait by updates of its own, for
	// measurements. By default all sequences, of all nodes, that wait for the
	// same next change share one.
	PerWatch bool
	// ProbeEvery is how long one wait lasts before the workflow is looked at:
	// that long a worker that went away goes unnoticed. Default:
	// [UpdateProbeEvery].
	ProbeEvery time.Duration
	// TryAgain is after how long an update is tried again where the run refuses
	// them for the moment; it doubles up to [UpdateTryAgainMax], unless it is
	// longer. Default: [UpdateTryAgain].
	TryAgain time.Duration
	// Degraded is how it goes on while a run takes no update.
	Degraded AdaptiveOptions
}

// LongPolling waits for the next change by a Temporal Update. A change that
// nobody waits for costs nothing; one that anybody waits for costs one update,
// which is two events of the history. Where the run refuses more, it goes on
// as [AdaptivePolling] does, with a [Notice]: until the next run where this one
// has taken all that it may, else until it takes updates again.
type LongPolling struct {
	calls    *calls
	perWatch bool
	probe    time.Duration
	tryAgain time.Duration
	degraded adapting
}

var _ Strategy = (*LongPolling)(nil)

// NewUpdate returns the strategy update.
func NewUpdate(t Temporal, o UpdateOptions) *LongPolling {
	if o.ProbeEvery <= 0 {
		o.ProbeEvery = UpdateProbeEvery
	}
	if o.TryAgain <= 0 {
		o.TryAgain = UpdateTryAgain
	}
	return &LongPolling{newCalls(t, o.CallOptions), o.PerWatch, o.ProbeEvery, o.TryAgain, newAdapting(o.Degraded)}
}

// Watch implements [Strategy].
func (l *LongPolling) Watch(ctx context.Context, workflowID string, after progress.Position) iter.Seq2[progress.Event, error] {
	return watchEach(ctx, l.calls, workflowID, after, func(w *watch) {
		p := &longPoll{watch: w, l: l, settle: settlePace}
		if l.perWatch {
			p.own = "-" + rand.Text()
		}
		p.follow()
	})
}

// settlePace is how often a run that has returned is looked at until it has
// closed, which it mostly has at once.
var settlePace = adapting{min: 20 * time.Millisecond, max: time.Second, factor: AdaptiveFactor}

// longPoll is one sequence of [LongPolling].
type longPoll struct {
	*watch
	l *LongPolling
	// own sets the IDs of updates apart; empty: they are shared.
	own string
	// accepted is the ID of the update that a worker has taken.
	accepted string
	settle   adapting
	// tryAgain is how long to poll before the next try, while it has degraded.
	tryAgain time.Duration
}

// follow looks at the workflow, which a closed run, another run and a worker
// that is away need, and waits for changes in between.
func (p *longPoll) follow() {
	for {
		if _, more := p.look(); !more {
			return
		}
		if !p.failing.IsZero() || p.last.RunID != p.run.id || p.last.Returned != "" {
			if !p.wait(p.settle.next(false)) {
				return
			}
			continue
		}
		if !p.changes() {
			return
		}
	}
}

// changes yields the changes of the run until it has to be looked at again.
func (p *longPoll) changes() bool {
	for of := p.run.id; p.run.id == of && p.last.Returned == ""; {
		s, err := p.next()
		if p.accepted != "" && !p.taken(errors.Is(err, errLook)) {
			return false
		}
		var refused *refusal
		switch {
		case errors.Is(err, errLook):
			return true
		case errors.Is(err, errGone):
			return p.wait(p.settle.next(false))
		case errors.As(err, &refused):
			// It was answered, and no other call tells that.
			if !p.ended(&p.refused, "the workflow answers again") || !p.degrade(refused) {
				return false
			}
			continue
		case err != nil && p.lesser != nil && p.ctx.Err() == nil && !isFinal(err):
			// It was only tried. What is amiss, the polling finds and tells.
			if !p.degrade(&refusal{text: err.Error()}) {
				return false
			}
			continue
		case isTimeout(err):
			return p.trouble(err) && p.wait(0)
		case err != nil:
			return p.troubled(&p.refused, err) && p.wait(p.refused.backoff)
		}
		newer, more := p.state(s)
		if !more {
			return false
		}
		p.settle = settlePace
		if !newer && s.Returned == "" {
			// A workflow task that failed has undone what the caller has: it
			// will come again.
			return p.wait(minBackoff)
		}
	}
	return true
}

// taken notes that the run has taken an update. One that was answered at once
// has waited for nothing, so it does not say that the next may wait.
func (p *longPoll) taken(waits bool) bool {
	const why = "the workflow takes updates again"
	if p.lesser == nil || !waits {
		return p.ended(&p.refused, why)
	}
	p.lesser = nil
	return p.told || p.live(why) // the end of what is told says so as well
}

// degrade polls until there is another run or, unless this one takes no more
// updates at all, until it is time to try one. The caller is told once.
func (p *longPoll) degrade(why *refusal) bool {
	reason := "adaptive polling until the run takes updates again, since it takes no more at the moment"
	if why.lasts {
		reason = "adaptive polling until the next run, since this one takes no more updates"
	}
	if p.lesser == nil {
		p.tryAgain = p.l.tryAgain
	}
	if p.lesser == nil || p.lesser.Reason != reason {
		p.lesser = &Notice{Kind: Degraded, Since: time.Now(), Reason: reason, Cause: why}
		if !p.yield(progress.Event{}, p.lesser) {
			return false
		}
	}
	again := time.Now().Add(jittered(p.tryAgain))
	p.tryAgain = max(p.tryAgain, min(2*p.tryAgain, UpdateTryAgainMax))
	pace, of := p.l.degraded, p.run.id
	return p.poll(&pace, func() bool {
		if p.run.id != of {
			return true
		}
		// By a state that is new: an older one would be answered at once, and
		// would be taken from the budget.
		return !why.lasts && !time.Now().Before(again) && p.failing.IsZero() && p.last.RunID == of && p.last.Returned == ""
	})
}

// errLook says that it is time to look at the run, errGone that the update is
// no more, since the run has ended or was reset, or its server has begun anew.
var (
	errLook = errors.New("look at the run")
	errGone = errors.New("the update is gone")
)

// refusal says that the run takes no update now; where it lasts, no other one
// either.
type refusal struct {
	text  string
	lasts bool
}

func (r *refusal) Error() string { return r.text }

// next waits for a state that is newer than the last one.
func (p *longPoll) next() (handlers.State, error) {
	dc := converter.WithDataConverterSerializationContext(p.calls.converter, converter.WorkflowSerializationContext{
		Namespace: p.calls.namespace, WorkflowID: p.id,
	})
	args, err := dc.ToPayloads(handlers.Wait{Started: p.last.Started, Version: p.last.Version})
	if err != nil {
		return handlers.State{}, fmt.Errorf("%w: encode the update: %w", progress.ErrInvalid, err)
	}
	ref := &updatepb.UpdateRef{
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: p.id, RunId: p.run.id},
		// What anybody who has this state would ask: Temporal has them share
		// one update, and answers late comers from the history.
		UpdateId: fmt.Sprintf("runcast-after-%d-%d%s", p.last.Started, p.last.Version, p.own),
	}
	until := time.Now().Add(p.l.probe)
	var outcome *updatepb.Outcome
	if p.accepted != ref.UpdateId {
		stage := enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
		if p.lesser != nil {
			stage = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED // that is what is tried
		}
		if outcome, err = p.l.ask(p.ctx, ref, &updatepb.Input{Name: handlers.Update, Args: args}, stage); err == nil {
			p.accepted = ref.UpdateId
			if p.lesser != nil || !p.refused.failing.IsZero() || !p.failing.IsZero() {
				until = time.Now() // that it is accepted is news
			}
		}
	}
	for err == nil && outcome == nil {
		left := time.Until(until)
		if left <= 0 {
			return handlers.State{}, errLook
		}
		outcome, err = p.l.hold(p.ctx, ref, left)
	}
	if err != nil {
		p.accepted = ""
		return handlers.State{}, err
	}
	if f := outcome.GetFailure(); f != nil {
		p.accepted = ""
		return handlers.State{}, refused(p.run.workflowType, f.GetApplicationFailureInfo().GetType(), f.GetMessage())
	}
	return p.calls.stateOf(p.id, handlers.Update, outcome.GetSuccess())
}

// ask begins to wait, or joins those who wait. The outcome is nil where it is
// only known that the update was accepted, for which it waits at least.
func (l *LongPolling) ask(ctx context.Context, ref *updatepb.UpdateRef, input *updatepb.Input, stage enumspb.UpdateWorkflowExecutionLifecycleStage) (*updatepb.Outcome, error) {
	for {
		resp, err := l.update(ctx, ref, input, stage)
		switch {
		case isTimeout(err) && ctx.Err() == nil && stage == enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED:
			// Nothing has changed, or no worker has taken it: ask which.
			stage = enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED
		case isTimeout(err):
			return nil, l.calls.noAnswer(err)
		case err != nil:
			return nil, err
		case resp.GetOutcome() == nil && resp.GetStage() < enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_ACCEPTED:
			return nil, l.calls.noAnswer(context.DeadlineExceeded)
		default:
			return resp.GetOutcome(), nil
		}
	}
}

func (l *LongPolling) update(ctx context.Context, ref *updatepb.UpdateRef, input *updatepb.Input, stage enumspb.UpdateWorkflowExecutionLifecycleStage) (*workflowservice.UpdateWorkflowExecutionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, l.calls.timeout)
	defer cancel()
	resp, err := l.calls.service.UpdateWorkflowExecution(ctx, &workflowservice.UpdateWorkflowExecutionRequest{
		Namespace: l.calls.namespace, WorkflowExecution: ref.GetWorkflowExecution(),
		WaitPolicy: &updatepb.WaitPolicy{LifecycleStage: stage},
		Request:    &updatepb.Request{Meta: &updatepb.Meta{UpdateId: ref.GetUpdateId(), Identity: "runcast"}, Input: input},
	})
	return resp, waiting(err)
}

// hold goes on waiting for an update that was accepted.
func (l *LongPolling) hold(ctx context.Context, ref *updatepb.UpdateRef, most time.Duration) (*updatepb.Outcome, error) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	resp, err := l.calls.service.PollWorkflowExecutionUpdate(ctx, &workflowservice.PollWorkflowExecutionUpdateRequest{
		Namespace: l.calls.namespace, UpdateRef: ref, Identity: "runcast",
		WaitPolicy: &updatepb.WaitPolicy{LifecycleStage: enumspb.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED},
	})
	if isTimeout(err) && parent.Err() == nil {
		return nil, nil
	}
	return resp.GetOutcome(), waiting(err)
}

// waiting says what an error of the server means for who waits.
func waiting(err error) error {
	var (
		gone      *serviceerror.NotFound
		limited   *serviceerror.ResourceExhausted
		forbidden *serviceerror.FailedPrecondition
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &gone):
		return errGone
	case errors.As(err, &limited) && limited.Cause == enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT:
		return &refusal{text: err.Error()}
	case errors.As(err, &forbidden):
		// Either the run has taken as many as the server lets it, or it is
		// paused. Only words tell these apart; where they should change, a try
		// a minute is all that it costs.
		return &refusal{text: err.Error(), lasts: strings.Contains(err.Error(), "total")}
	}
	return fmt.Errorf("wait for the next change: %w", err)
}

// The types of failures by which the server ends updates itself.
const (
	failedByClosing = "AcceptedUpdateCompletedWorkflow"
	failedByWorker  = "UnprocessedUpdate"
)

// refused says what a failed update means for who waits.
func refused(workflowType, failure, text string) error {
	switch {
	case failure == failedByClosing || failure == handlers.RefusedReset:
		return errGone
	case failure == handlers.RefusedWaiting || failure == handlers.RefusedTotal:
		return &refusal{text: text, lasts: failure == handlers.RefusedTotal}
	case failure == handlers.RefusedInput:
		return fmt.Errorf("%w: %s", progress.ErrInvalid, text)
	case failure == failedByWorker || names(text, handlers.Update):
		return noHandler(workflowType, "update", handlers.Update)
	}
	return fmt.Errorf("wait for the next change: %s", text)
}
