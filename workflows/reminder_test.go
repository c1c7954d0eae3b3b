package workflows_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/converter"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/workflows"
)

// zone is where the people of these tests are.
const zone = "Australia/Sydney"

func (o *office) remind(in message.ReminderInput) workflows.ReminderResult {
	o.t.Helper()
	var result workflows.ReminderResult
	if err := o.get(o.start(message.ReminderWorkflow, "reminder-"+testenv.Prefix(o.t), in), &result); err != nil {
		o.t.Fatal(err)
	}
	return result
}

func TestReminderEscalates(t *testing.T) {
	c := &carrier{}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	got := o.remind(message.ReminderInput{
		Channel: message.ChannelSMS, To: ada, Name: "Ada", TimeZone: zone, Wait: time.Second, EscalateTo: "+61491570158",
	})
	if got.Outcome != workflows.Escalated || got.Reminders != 2 || got.Missing != 8 || len(c.taken) != 3 {
		t.Fatalf("%+v, %d messages", got, len(c.taken))
	}
	for i, want := range []string{"Hi Ada, 8 h are missing for ", "Hi Ada, 8 h are still missing for ", "Ada has not recorded 8 h for "} {
		if !strings.HasPrefix(c.taken[i].Text, want) || (c.taken[i].To == ada) != (i < 2) {
			t.Errorf("message %d to %s: %q", i+1, c.taken[i].To, c.taken[i].Text)
		}
	}
	if ids, err := o.store.Awaiting(t.Context(), ada); err != nil || len(ids) != 0 {
		t.Errorf("%q still wait, %v", ids, err)
	}
}

// elsewhere is a time zone in which it is another day than in UTC now.
func elsewhere(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"Pacific/Kiritimati", "Pacific/Pago_Pago"} {
		location, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		if now := time.Now(); now.In(location).Day() != now.UTC().Day() {
			return name
		}
	}
	t.Fatal("14 hours ahead and 11 behind it is the same day")
	return ""
}

// An answer by SMS ends the reminder at once: "today" is the day where the
// person is, of whom the reminder knows it, not where the worker is.
func TestReminderIsAnswered(t *testing.T) {
	zone := elsewhere(t)
	o := newOffice(t, nil)
	run := o.start(message.ReminderWorkflow, "reminder-"+testenv.Prefix(t), message.ReminderInput{
		Channel: message.ChannelSMS, To: ada, TimeZone: zone, Wait: time.Hour,
	})
	eventually(t, "reminder", func() bool { return len(o.sent()) == 1 })
	o.ask("log 3h on apollo") // not all of it
	o.ask("log 5h on apollo today")
	var got workflows.ReminderResult
	if err := o.get(run, &got); err != nil || got.Outcome != workflows.Answered || got.Reminders != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got := o.ask("how many hours today?"); got.Reply != "You have 8 h today: apollo 8 h." {
		t.Errorf("%+v", got)
	}
}

func TestReminderOwesNothing(t *testing.T) {
	o := newOffice(t, nil)
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	today := time.Now().In(location).Format(time.DateOnly)
	if _, err := o.store.Record(t.Context(), ada, "x", []agents.Entry{{Day: today, Project: "apollo", Hours: 8}}); err != nil {
		t.Fatal(err)
	}
	if got := o.remind(message.ReminderInput{Channel: message.ChannelSMS, To: ada, TimeZone: zone}); got.Outcome != workflows.NothingDue || len(o.sent()) != 0 {
		t.Errorf("%+v, %q", got, o.sent())
	}
	if err := o.store.OptOut(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	if got := o.remind(message.ReminderInput{Channel: message.ChannelSMS, To: ada, TimeZone: zone}); got.Outcome != workflows.PersonOptedOut {
		t.Errorf("%+v", got)
	}
}

// Daily reminders for 200 people, across a continue-as-new, end with who was
// reminded, skipped and failed, while the children still wait.
func TestDaily(t *testing.T) {
	c := &carrier{}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	in := message.DailyInput{Parallel: 20}
	for n := range 200 {
		user := message.ReminderInput{
			Channel: message.ChannelSMS, To: message.Address(fmt.Sprintf("+6149157%04d", n)), Name: fmt.Sprintf("user %d", n), TimeZone: zone, Wait: time.Hour,
		}
		if n%50 == 7 {
			user.Name, user.Hours = "", 25 // refused: the run fails
		}
		if n%40 == 3 {
			if err := o.store.OptOut(t.Context(), user.To); err != nil {
				t.Fatal(err)
			}
		}
		in.Users = append(in.Users, user)
	}
	id := "daily-" + testenv.Prefix(t)
	run := o.start(message.DailyWorkflow, id, in)
	first := run.GetRunID()
	var got workflows.DailyResult
	if err := run.Get(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Reminded) != 191 || len(got.Skipped) != 5 || len(got.Failed) != 4 || c.count() != 191 {
		t.Errorf("%d reminded, %d skipped, %d failed, %d messages", len(got.Reminded), len(got.Skipped), len(got.Failed), c.count())
	}
	if f := got.Failed[0]; f.Who != "+61•••••0007" || !strings.Contains(f.Error, "hours is 25") {
		t.Errorf("%+v", f)
	}
	if got.Skipped[0].Why != workflows.PersonOptedOut {
		t.Errorf("%+v", got.Skipped[0])
	}
	described, err := o.client.DescribeWorkflowExecution(t.Context(), id, "")
	if err != nil {
		t.Fatal(err)
	}
	last := described.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	if last == first {
		t.Error("it did not continue as new")
	}
	for _, runID := range []string{first, last} {
		if children, most := o.children(id, runID); children != 100 || most > in.Parallel || most < 2 {
			t.Errorf("a run had %d children, %d of them at once", children, most)
		}
	}
	for n := range 200 {
		_ = o.client.TerminateWorkflow(t.Context(), fmt.Sprintf("%s-%d", id, n+1), "", "the test is over") // some have ended
	}
}

// children returns how many people a run of the daily reminders has reminded,
// and how many at once: from the start of each until its outcome is known.
func (o *office) children(id, runID string) (all, most int) {
	o.t.Helper()
	busy := map[string]bool{}
	history := o.client.GetWorkflowHistory(o.t.Context(), id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		if err != nil {
			o.t.Fatal(err)
		}
		if a := e.GetStartChildWorkflowExecutionInitiatedEventAttributes(); a != nil {
			all++
			busy[a.WorkflowId] = true
			most = max(most, len(busy))
		}
		if a := e.GetWorkflowExecutionSignaledEventAttributes(); a != nil {
			var s struct{ Workflow string }
			if err := converter.GetDefaultDataConverter().FromPayloads(a.Input, &s); err != nil {
				o.t.Fatal(err)
			}
			delete(busy, s.Workflow)
		}
		if a := e.GetChildWorkflowExecutionFailedEventAttributes(); a != nil {
			delete(busy, a.WorkflowExecution.WorkflowId)
		}
	}
	return all, most
}
