package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/reporter"
)

// HoursSignal tells a reminder that the person has recorded hours.
const HoursSignal = "hours_recorded"

// remindedSignal tells the daily reminders how one of them goes.
const remindedSignal = "reminder_settled"

// Outcome is how a reminder ends.
type Outcome string

// The outcomes.
const (
	// NothingDue: the person owes no hours.
	NothingDue Outcome = "nothing_due"
	// PersonOptedOut: the person wants no messages.
	PersonOptedOut Outcome = "opted_out"
	// Reminded: a first reminder was sent; the run goes on.
	Reminded Outcome = "reminded"
	// Answered: the hours were recorded after a reminder.
	Answered Outcome = "answered"
	// Unanswered: they were not, and there is nobody to tell.
	Unanswered Outcome = "unanswered"
	// Escalated: they were not, and somebody was told.
	Escalated Outcome = "escalated"
)

// ReminderResult is what [TimesheetReminderWorkflow] returns.
type ReminderResult struct {
	Outcome Outcome `json:"outcome"`
	Day     string  `json:"day"`
	// Reminders is how many were sent.
	Reminders int `json:"reminders"`
	// Missing is how many hours are, at the end.
	Missing float64 `json:"missing"`
}

const (
	maxReminders = 10
	maxWait      = 7 * 24 * time.Hour
)

// reminderDefaults returns the input with its defaults, or an error, not to
// be retried, that says why it is refused.
func reminderDefaults(in message.ReminderInput) (message.ReminderInput, error) {
	in.Hours, in.Wait, in.Reminders = cmp.Or(in.Hours, 8), cmp.Or(in.Wait, 2*time.Hour), cmp.Or(in.Reminders, 2)
	refuse := func(format string, args ...any) (message.ReminderInput, error) {
		return in, temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), InvalidInput, nil)
	}
	switch {
	case in.To == "":
		return refuse("to is empty; it says who is reminded")
	case in.Hours < 0 || in.Hours > 24:
		return refuse("hours is %v; it must be from 0 to 24", in.Hours)
	case in.Wait < 0 || in.Wait > maxWait:
		return refuse("wait is %v; it must be up to %v", in.Wait, maxWait)
	case in.Reminders < 0 || in.Reminders > maxReminders:
		return refuse("reminders is %d; it must be from 1 to %d", in.Reminders, maxReminders)
	}
	return in, nil
}

// reminder is one run of [TimesheetReminderWorkflow].
type reminder struct {
	in       message.ReminderInput
	due      activities.DueInput
	result   ReminderResult
	recorded int // how often the person has recorded hours
	sent     int
}

// TimesheetReminderWorkflow asks a person for the hours that are missing for
// today: it reminds, waits until they are recorded or the time is over,
// reminds again, and at last tells somebody.
func TimesheetReminderWorkflow(ctx workflow.Context, in message.ReminderInput) (ReminderResult, error) {
	in, err := reminderDefaults(in)
	if err != nil {
		return ReminderResult{}, err
	}
	info := workflow.GetInfo(ctx)
	r := &reminder{in: in, due: activities.DueInput{
		Who: in.To, Zone: in.TimeZone, At: workflow.Now(ctx), Owed: in.Hours, Workflow: info.WorkflowExecution.ID,
	}}
	newDelivery(ctx) // shows what becomes of the messages
	signals := workflow.GetSignalChannel(ctx, HoursSignal)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for signals.Receive(ctx, nil) {
			r.recorded++
		}
	})
	err = r.run(ctx)
	if r.sent > 0 {
		// Also where the run was canceled.
		ctx, cancel := workflow.NewDisconnectedContext(ctx)
		defer cancel()
		if e := workflow.ExecuteActivity(keeping(ctx, "Wait no more"), messaging.AwaitNoMore, r.due).Get(ctx, nil); err == nil {
			err = e
		}
	}
	return r.result, err
}

func (r *reminder) run(ctx workflow.Context) error {
	p := reporter.Workflow(ctx)
	if err := r.ask(ctx); err != nil {
		return err
	}
	if r.result.Outcome != "" {
		r.settle(ctx)
		return nil
	}
	for n := 1; n <= r.in.Reminders; n++ {
		if err := r.send(ctx, fmt.Sprintf("Reminder %d", n), r.in.To, r.text(n)); optedOut(err) {
			r.result.Outcome = PersonOptedOut
			r.settle(ctx)
			return nil
		} else if err != nil {
			return err
		}
		r.result.Reminders = n
		if n == 1 {
			r.result.Outcome = Reminded
			r.settle(ctx)
			r.result.Outcome = ""
		}
		p.Message("Waiting for the hours.")
		if err := r.wait(ctx); err != nil || r.result.Outcome != "" {
			return err
		}
	}
	if r.in.EscalateTo == "" {
		r.result.Outcome = Unanswered
		p.Message("Nobody has answered.")
		return nil
	}
	who := cmp.Or(r.in.Name, r.in.To.String())
	text := fmt.Sprintf("%s has not recorded %s h for %s, after %d reminders.", who, number(r.result.Missing), r.result.Day, r.result.Reminders)
	if err := r.send(ctx, "Escalate", r.in.EscalateTo, text); err != nil {
		return err
	}
	r.result.Outcome = Escalated
	return nil
}

// ask looks whether hours are missing. Where none are, it sets the outcome.
func (r *reminder) ask(ctx workflow.Context) error {
	var due activities.Due
	if err := workflow.ExecuteActivity(keeping(ctx, "Look for hours"), messaging.DueHours, r.due).Get(ctx, &due); err != nil {
		return err
	}
	r.result.Day, r.result.Missing = due.Day, due.Missing
	switch {
	case due.OptedOut:
		r.result.Outcome = PersonOptedOut
	case due.Missing > 0:
	case r.sent > 0:
		r.result.Outcome = Answered
	default:
		r.result.Outcome = NothingDue
	}
	return nil
}

// wait waits until the hours are there, or the time is over. Where they are,
// it sets the outcome.
func (r *reminder) wait(ctx workflow.Context) error {
	deadline := workflow.Now(ctx).Add(r.in.Wait)
	for seen := 0; ; {
		left := deadline.Sub(workflow.Now(ctx))
		told, err := workflow.AwaitWithTimeout(ctx, max(left, 0), func() bool { return r.recorded > seen })
		if err != nil {
			return err
		}
		seen = r.recorded
		// A signal may have been lost with its sender: ask at the end, too.
		if err := r.ask(ctx); err != nil || r.result.Outcome != "" || !told {
			return err
		}
	}
}

func (r *reminder) text(n int) string {
	hello := ""
	if r.in.Name != "" {
		hello = "Hi " + r.in.Name + ", "
	}
	again := ""
	if n > 1 {
		again = "still "
	}
	return fmt.Sprintf("%s%s h are %smissing for %s. Answer for example \"log %sh on apollo\", or STOP.",
		hello, number(r.result.Missing), again, r.result.Day, number(r.result.Missing))
}

func number(h float64) string { return strconv.FormatFloat(h, 'f', -1, 64) }

func (r *reminder) send(ctx workflow.Context, summary string, to message.Address, text string) error {
	r.sent++
	_, err := send(ctx, summary, message.Outgoing{
		Channel: r.in.Channel, From: r.in.From, To: to, Text: text,
		Key: intentKey(ctx, r.sent), StatusCallback: callback(ctx, r.in.StatusCallback),
	})
	return err
}

// settled is how a reminder goes, for the daily reminders.
type settled struct {
	Workflow string  `json:"workflow"`
	Outcome  Outcome `json:"outcome"`
}

// settle tells the parent, if there is one, how it goes. The parent may have
// ended, which is no trouble.
func (r *reminder) settle(ctx workflow.Context) {
	info := workflow.GetInfo(ctx)
	if info.ParentWorkflowExecution == nil {
		return
	}
	err := workflow.SignalExternalWorkflow(ctx, info.ParentWorkflowExecution.ID, "", remindedSignal,
		settled{info.WorkflowExecution.ID, r.result.Outcome}).Get(ctx, nil)
	if err != nil {
		workflow.GetLogger(ctx).Debug("the daily reminders were not told", "error", err)
	}
}

func optedOut(err error) bool {
	var failed *temporal.ApplicationError
	return errors.As(err, &failed) && failed.Type() == activities.OptedOut
}
