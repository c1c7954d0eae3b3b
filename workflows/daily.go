package workflows

import (
	"cmp"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/reporter"
)

const (
	// dailyRun is how many people one run reminds before it continues as new,
	// which keeps histories short.
	dailyRun = 100
	// maxParallel bounds how many reminders begin at once.
	maxParallel = 100
)

// DailyState is the argument of [DailyReminderScheduleWorkflow]: what it is
// started with, and what the runs before have done, which the workflow sets
// itself.
type DailyState struct {
	message.DailyInput
	Next   int         `json:"next,omitempty"`
	Result DailyResult `json:"result,omitzero"`
}

// DailyResult says how the daily reminders went. People are named, or else
// their addresses are masked.
type DailyResult struct {
	Reminded []string       `json:"reminded"`
	Skipped  []DailySkipped `json:"skipped"`
	Failed   []DailyFailed  `json:"failed"`
}

// DailySkipped is a person who was not reminded, for a good reason.
type DailySkipped struct {
	Who string  `json:"who"`
	Why Outcome `json:"why"`
}

// DailyFailed is a person who could not be reminded.
type DailyFailed struct {
	Who   string `json:"who"`
	Error string `json:"error"`
}

// daily is one run of [DailyReminderScheduleWorkflow].
type daily struct {
	state DailyState
	// outcomes are what the children have told, by their workflow IDs.
	outcomes map[string]Outcome
	busy     int
}

// DailyReminderScheduleWorkflow reminds people of their hours: each in a
// [TimesheetReminderWorkflow] of its own, some of them at a time. A place is
// free for the next once a first reminder is sent or none is due; the
// children then go on by themselves.
func DailyReminderScheduleWorkflow(ctx workflow.Context, in DailyState) (DailyResult, error) {
	in.Parallel = cmp.Or(in.Parallel, 10)
	if in.Parallel < 0 || in.Parallel > maxParallel {
		return in.Result, temporal.NewNonRetryableApplicationError(fmt.Sprintf("parallel is %d; it must be from 1 to %d", in.Parallel, maxParallel), InvalidInput, nil)
	}
	d := &daily{state: in, outcomes: make(map[string]Outcome)}
	signals := workflow.GetSignalChannel(ctx, remindedSignal)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var s settled
			if !signals.Receive(ctx, &s) {
				return
			}
			d.outcomes[s.Workflow] = s.Outcome
		}
	})
	p := reporter.Workflow(ctx)
	total := len(in.Users)
	last := min(in.Next+dailyRun, total)
	done := in.Next
	for n := in.Next; n < last; n++ {
		if err := workflow.Await(ctx, func() bool { return d.busy < in.Parallel }); err != nil {
			return d.state.Result, err
		}
		d.busy++
		workflow.Go(ctx, func(ctx workflow.Context) {
			d.remind(ctx, n)
			d.busy--
			done++
			p.Count(int64(done), int64(total))
		})
	}
	if err := workflow.Await(ctx, func() bool { return d.busy == 0 }); err != nil {
		return d.state.Result, err
	}
	if last < total {
		d.state.Next = last
		return d.state.Result, workflow.NewContinueAsNewError(ctx, message.DailyWorkflow, d.state)
	}
	r := &d.state.Result
	p.Message(fmt.Sprintf("%d reminded, %d skipped, %d failed.", len(r.Reminded), len(r.Skipped), len(r.Failed)))
	return *r, nil
}

// remind begins the reminder of a person and notes how it goes.
func (d *daily) remind(ctx workflow.Context, n int) {
	user := d.state.Users[n]
	who := cmp.Or(user.Name, user.To.String())
	info := workflow.GetInfo(ctx)
	id := fmt.Sprintf("%s-%d", info.WorkflowExecution.ID, n+1)
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		Memo:                  map[string]any{"runcast.tags": []string{"reminders"}},
	}), message.ReminderWorkflow, user)
	var end ReminderResult
	var failed error
	ended := false
	workflow.Go(ctx, func(ctx workflow.Context) {
		failed = child.Get(ctx, &end)
		ended = true
	})
	if err := workflow.Await(ctx, func() bool { return ended || d.outcomes[id] != "" }); err != nil {
		failed, ended = err, true
	}
	outcome := d.outcomes[id]
	if outcome == "" {
		outcome = end.Outcome
	}
	r := &d.state.Result
	switch {
	case outcome == "" || ended && failed != nil && outcome != Reminded:
		r.Failed = append(r.Failed, DailyFailed{who, reasonOf(failed)})
	case outcome == NothingDue || outcome == PersonOptedOut:
		r.Skipped = append(r.Skipped, DailySkipped{who, outcome})
	default:
		r.Reminded = append(r.Reminded, who)
	}
}

// reasonOf says why a child failed, without the chain of what it went
// through.
func reasonOf(err error) string {
	var failed *temporal.ApplicationError
	switch {
	case errors.As(err, &failed):
		return failed.Message()
	case err != nil:
		return err.Error()
	}
	return "it ended without an outcome"
}
