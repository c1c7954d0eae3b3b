package reporter

import (
	"encoding/json"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// tagsMemo is the memo that names a run's tags: a list of strings.
const tagsMemo = "runcast.tags"

// workflowRun is one run in one worker's cache. It belongs to the run's
// workflow code: only its coroutines, of which one runs at a time, use it.
type workflowRun struct {
	r    *Reporter
	mute bool
	// silent says that a query or an update's validator runs, which may see
	// the run but not change what is known of it.
	silent bool
	// id is nil until the run does something live in this worker.
	id *identity

	// names counts the activities by step name. It counts in replays too, so
	// that a step has the same name wherever the run goes on.
	names map[string]int

	// handlers let the run be followed; nil where they are left out. open are
	// the steps that they have not seen ending.
	handlers *handlers.Handlers
	open     []openStep

	// state is what reporter.Workflow said last, merged.
	state workflowState

	// length and index make the numbers of events.
	length, index int
}

// live reports whether what the workflow code does now happens for the first
// time, and may be reported. The first time it is true in this worker, it
// says that the run has started: that is dropped as a duplicate unless the
// run is new, or the store lost it.
func (w *workflowRun) live(ctx workflow.Context) bool {
	if w.mute || w.silent || workflow.IsReplaying(ctx) {
		return false
	}
	if w.id != nil {
		return true
	}
	info := workflow.GetInfo(ctx)
	if info.WorkflowType.Name == reconcilerWorkflow {
		w.mute = true
		return false
	}
	w.id = &identity{
		workflowID: info.WorkflowExecution.ID, runID: info.WorkflowExecution.RunID, workflowType: info.WorkflowType.Name,
		chain: info.FirstRunID, first: info.FirstRunID, reset: madeByReset(info), time: workflow.Now(ctx),
	}
	e := w.id.event(progress.TypeStarted)
	e.Status = progress.StatusRunning
	e.WorkflowType = w.id.workflowType
	e.Tags = memoTags(info.Memo, w.r.opt.converter)
	w.r.queue.put(&batch{id: w.id, producer: workflowProducer(w.id.runID), number: 1, events: []progress.Event{e}, begins: true})
	return true
}

// silence keeps the run from reporting until the returned function is called.
func (w *workflowRun) silence() (end func()) {
	before := w.silent
	w.silent = true
	return func() { w.silent = before }
}

// report hands an event over to the writer. Live only.
func (w *workflowRun) report(ctx workflow.Context, e progress.Event) { w.put(ctx, e, false) }

func (w *workflowRun) put(ctx workflow.Context, e progress.Event, ifOpen bool) {
	w.r.queue.put(&batch{
		id: w.id, producer: workflowProducer(w.id.runID), number: w.number(ctx), events: []progress.Event{e}, ifOpen: ifOpen,
	})
}

// indexBits is the room for events at one length of the history.
const indexBits = 16

// number returns the next event's: the same when the same code runs again
// from the same point, larger when the history has grown.
func (w *workflowRun) number(ctx workflow.Context) int64 {
	if length := workflow.GetInfo(ctx).GetCurrentHistoryLength(); length != w.length {
		w.length, w.index = length, 0
	}
	w.index++
	return int64(w.length)<<indexBits | int64(min(w.index, 1<<indexBits-1))
}

// stepName returns a name for the next activity of the given type: its
// summary if the workflow set one. From the second of a name on they are
// numbered.
func (w *workflowRun) stepName(summary, activityType string) string {
	name := summary
	if name == "" {
		name = activityType
	}
	name = bounded(name, nameMax)
	w.names[name]++
	if n := w.names[name]; n > 1 {
		return fmt.Sprintf("%s#%d", name, n)
	}
	return name
}

// header returns what an activity needs to report.
func (w *workflowRun) header(ctx workflow.Context, step string, local bool) (*commonpb.Payload, error) {
	info := workflow.GetInfo(ctx)
	h := header{
		Chain: info.FirstRunID, Run: info.WorkflowExecution.RunID, Reset: madeByReset(info),
		Step: step, WorkflowType: info.WorkflowType.Name,
	}
	if w.id != nil {
		h.RunTime = w.id.time.UnixMilli()
		if local {
			h.TaskTime = workflow.Now(ctx).UnixMilli()
		}
	}
	return h.payload()
}

// madeByReset reports whether a reset made the run: its history begins with
// that of the run that was reset.
func madeByReset(info *workflow.Info) bool {
	return info.OriginalRunID != "" && info.OriginalRunID != info.WorkflowExecution.RunID
}

// memoTags reads the tags from a memo; nil when there are none. A single
// string is one tag.
func memoTags(m *commonpb.Memo, c converter.DataConverter) []string {
	p := m.GetFields()[tagsMemo]
	if p == nil {
		return nil
	}
	var v any
	if err := c.FromPayload(p, &v); err != nil {
		return nil
	}
	return tagsOf(map[string]any{tagsMemo: v})
}

// tagsOf reads the tags from the memo of a start request.
func tagsOf(memo map[string]any) []string {
	v, ok := memo[tagsMemo]
	if !ok {
		return nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var tags []string
	if json.Unmarshal(text, &tags) == nil {
		return validTags(tags)
	}
	var tag string
	if json.Unmarshal(text, &tag) == nil {
		return validTags([]string{tag})
	}
	return nil
}
