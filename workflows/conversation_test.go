package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/agents"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/workflows"
)

// An SMS is answered, and its stream shows the agents at work.
func TestConversation(t *testing.T) {
	o := newOffice(t, nil)
	run := o.converse(o.inbound("log 8h on apollo yesterday and remind me at 5pm to stretch"))
	var result message.ConversationResult
	if err := o.get(run, &result); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(result.Reply, "Recorded 8 h on apollo yesterday.\nI will remind you") || !result.Sent || result.Receipt.Status != message.StatusDelivered {
		t.Errorf("result = %+v", result)
	}
	if got := o.sent(); !slices.Equal(got, []string{result.Reply}) {
		t.Errorf("sent %q", got)
	}
	yesterday := time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)
	if got, err := o.store.Between(t.Context(), ada, yesterday, yesterday); err != nil || len(got) != 1 || got[0].Hours != 8 {
		t.Errorf("hours = %+v, %v", got, err)
	}
	if turns, err := o.store.Memory(t.Context(), ada); err != nil || len(turns) != 1 || turns[0].Reply != result.Reply {
		t.Errorf("memory = %+v, %v", turns, err)
	}
	if err := o.client.TerminateWorkflow(t.Context(), run.GetID()+"-remind-1", "", "the test is over"); err != nil {
		t.Errorf("there is no reminder: %v", err)
	}

	events := o.events(run.GetID())
	var begun, steps []string
	outputs := map[string]string{}
	for _, e := range events {
		switch e.Type {
		case progress.TypeStep:
			if e.Status == progress.StatusRunning {
				begun = append(begun, e.Step)
			} else if e.Status.IsTerminal() {
				steps = append(steps, e.Step+" "+string(e.Status))
			}
		case progress.TypeOutput:
			outputs[e.Step] += pieceOf(t, e)
		}
	}
	for _, step := range []string{"Recall", "Router", "Timesheet agent", "Schedule agent", "Composer", "Remember", "Send", "Delivery"} {
		if !slices.Contains(steps, step+" completed") || step != "Delivery" && !slices.Contains(begun, step) {
			t.Errorf("step %s did not begin or complete; %q began, %q did", step, begun, steps)
		}
	}
	if outputs["Composer"] != result.Reply || !strings.HasPrefix(outputs["Timesheet agent"], "Recorded") {
		t.Errorf("outputs = %q", outputs)
	}
	if !hasText(events, "This is for: timesheet, schedule.") {
		t.Error("the router's thought is not shown")
	}
}

// pieceOf returns the text of an output event.
func pieceOf(t *testing.T, e progress.Event) string {
	t.Helper()
	var text string
	if err := json.Unmarshal(e.Data, &text); err != nil {
		t.Fatal(err)
	}
	return text
}

// Without leave to show texts, neither they nor numbers are in any event.
func TestConversationIsPrivate(t *testing.T) {
	o := newOffice(t, func(o *office) { o.m.ShowText = false })
	run := o.converse(o.inbound("log 8h on sesame"))
	if err := o.get(run, nil); err != nil {
		t.Fatal(err)
	}
	events := o.events(run.GetID())
	hidden := ""
	for _, e := range events {
		if e.Type == progress.TypeOutput {
			hidden += pieceOf(t, e)
		}
	}
	for _, private := range []string{"sesame", ada.Raw(), ours.Raw()} {
		if hasText(events, private) {
			t.Errorf("an event shows %q", private)
		}
	}
	if !strings.Contains(hidden, "•••• (29 characters)") {
		t.Errorf("no event says how long the text is: %q", hidden)
	}
}

func TestConversationRemembers(t *testing.T) {
	o := newOffice(t, nil)
	o.ask("log 2h on apollo")
	if got := o.ask("how many hours today?"); got.Reply != "You have 2 h today: apollo 2 h." {
		t.Errorf("got %+v", got)
	}
}

// STOP, START and HELP count on both channels; a STOP on one is one on the
// other, since it is the same number.
func TestStopStartHelp(t *testing.T) {
	for channel, prefix := range map[message.Channel]message.Address{message.ChannelSMS: "", message.ChannelWhatsApp: "whatsapp:"} {
		t.Run(string(channel), func(t *testing.T) {
			c := &carrier{}
			o := newOffice(t, func(o *office) { o.m.Carrier = c })
			ask := func(text string) message.ConversationResult {
				t.Helper()
				in := o.inbound(text)
				in.Message.Channel, in.Message.From, in.Message.To = channel, prefix+ada, prefix+ours
				before := c.count()
				var result message.ConversationResult
				if err := o.get(o.converse(in), &result); err != nil {
					t.Fatal(err)
				}
				if sent := c.taken[before:]; result.Sent != (len(sent) == 1) || result.Sent && (sent[0].To != prefix+ada || sent[0].From != prefix+ours || sent[0].Channel != channel) {
					t.Errorf("%q: sent %v", text, sent)
				}
				return result
			}
			if got := ask(" Stop. "); got.Sent || got.Reply != "" {
				t.Errorf("STOP is answered: %+v", got)
			}
			if got := ask("how many hours today?"); got.Sent || got.Reply != "" {
				t.Errorf("a message after STOP is answered: %+v", got)
			}
			if gone, err := o.store.OptedOut(t.Context(), ada); err != nil || !gone {
				t.Errorf("the number has not opted out: %v", err)
			}
			if got := ask("Yes!"); !got.Sent || got.Reply != agents.Again {
				t.Errorf("YES after STOP: %+v", got)
			}
			ask("stopall")
			if got := ask("START"); !got.Sent || got.Reply != agents.Again {
				t.Errorf("START: %+v", got)
			}
			if got := ask("help"); !got.Sent || got.Reply != agents.Help {
				t.Errorf("HELP: %+v", got)
			}
			if got := ask("stop the clock"); !got.Sent {
				t.Errorf("a sentence is no command: %+v", got)
			}
		})
	}
}

// A reply to STOP is nothing that who waits could claim.
func TestStopIsNotClaimed(t *testing.T) {
	o := newOffice(t, nil)
	in := o.inbound("STOP")
	in.Message.Channel, in.Message.From, in.Wait = message.ChannelWhatsApp, "whatsapp:"+ada, 20*time.Second
	run := o.converse(in)
	if claim, err := o.claim(run.GetID()); err == nil && claim.Claimed {
		t.Errorf("%+v", claim)
	}
	if err := o.get(run, nil); err != nil || len(o.sent()) != 0 {
		t.Errorf("%v, %q", err, o.sent())
	}
}

// claim asks for the answer until there is one.
func (o *office) claim(id string) (message.Claim, error) {
	for {
		handle, err := o.client.UpdateWorkflow(o.t.Context(), client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: message.ClaimUpdate, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err != nil {
			return message.Claim{}, err
		}
		var claim message.Claim
		err = handle.Get(o.t.Context(), &claim)
		var rejected *temporal.ApplicationError
		if err == nil || !errors.As(err, &rejected) {
			return claim, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Who claims the answer in time answers; the workflow does not send it, too.
func TestClaim(t *testing.T) {
	o := newOffice(t, nil)
	in := o.inbound("log 8h on apollo")
	in.Wait = 20 * time.Second
	run := o.converse(in)
	claim, err := o.claim(run.GetID())
	if err != nil || !claim.Claimed || claim.Reply != "Recorded 8 h on apollo today." {
		t.Fatalf("%+v, %v", claim, err)
	}
	var result message.ConversationResult
	if err := o.get(run, &result); err != nil || result.Sent || result.Reply != claim.Reply {
		t.Errorf("%+v, %v", result, err)
	}
	if got := o.sent(); len(got) != 0 {
		t.Errorf("sent too: %q", got)
	}
}

// Nobody claims it, as when the API was killed: the workflow sends.
func TestNobodyClaims(t *testing.T) {
	o := newOffice(t, nil)
	in := o.inbound("log 8h on apollo")
	in.Wait = time.Second
	var result message.ConversationResult
	if err := o.get(o.converse(in), &result); err != nil || !result.Sent || len(o.sent()) != 1 {
		t.Errorf("%+v, %v, %q", result, err, o.sent())
	}
}

// A claim that comes while the workflow sends gets nothing.
func TestLateClaim(t *testing.T) {
	c := &carrier{status: message.StatusQueued}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	in := o.inbound("log 8h on apollo")
	in.StatusCallback = "http://api.example/webhooks/twilio/status"
	run := o.converse(in)
	eventually(t, "message at the carrier", func() bool { return c.count() == 1 })
	if claim, err := o.claim(run.GetID()); err != nil || claim.Claimed {
		t.Errorf("%+v, %v", claim, err)
	}
	if err := o.client.TerminateWorkflow(t.Context(), run.GetID(), "", "the test is over"); err != nil {
		t.Error(err)
	}
}

// The delivery status comes in any order, and is an event of the run.
func TestDeliveryStatus(t *testing.T) {
	c := &carrier{status: message.StatusQueued}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	in := o.inbound("log 8h on apollo")
	in.StatusCallback = "http://api.example/webhooks/twilio/status"
	run := o.converse(in)
	eventually(t, "message at the carrier", func() bool { return c.count() == 1 })
	sid := c.receipt(1).SID
	for _, r := range []message.Receipt{
		{SID: "SMother", Status: message.StatusFailed}, {SID: sid, Status: message.StatusSent}, {SID: sid, Status: message.StatusSending},
		{SID: sid, Status: message.StatusUndelivered, ErrorCode: 30003},
	} {
		if err := o.client.SignalWorkflow(t.Context(), run.GetID(), "", message.StatusSignal, r); err != nil {
			t.Fatal(err)
		}
	}
	if url := c.taken[0].StatusCallback; url != in.StatusCallback+"?workflow="+run.GetID() {
		t.Errorf("the carrier reports to %s", url)
	}
	var result message.ConversationResult
	if err := o.get(run, &result); err != nil || result.Receipt.Status != message.StatusUndelivered || result.Receipt.ErrorCode != 30003 {
		t.Errorf("%+v, %v", result, err)
	}
	events := o.events(run.GetID())
	if !slices.ContainsFunc(events, func(e progress.Event) bool {
		return e.Step == workflows.DeliveryStep && e.Status == progress.StatusFailed && e.Message == "undelivered, error 30003"
	}) {
		t.Error("the stream does not show it")
	}
}

// Where the carrier was not told where to report, the run does not wait.
func TestNoStatusCallback(t *testing.T) {
	o := newOffice(t, func(o *office) { o.m.Carrier = &carrier{status: message.StatusQueued} })
	if got := o.ask("hello"); !got.Sent || got.Receipt.Status != message.StatusQueued {
		t.Errorf("%+v", got)
	}
}

// Errors that no retry mends end the run at once, and say why.
func TestPermanentErrors(t *testing.T) {
	for _, tt := range []struct {
		class error
		code  int
		kind  string
	}{
		{message.ErrOptedOut, 21610, activities.OptedOut},
		{message.ErrBadNumber, 21211, activities.BadNumber},
		{message.ErrRefused, 30034, activities.Refused},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			c := &carrier{before: func(int) error { return errClass(tt.class, tt.code) }}
			o := newOffice(t, func(o *office) { o.m.Carrier = c })
			run := o.converse(o.inbound("hello"))
			err := o.get(run, nil)
			var failed *temporal.ApplicationError
			if !errors.As(err, &failed) || failed.Type() != tt.kind || !failed.NonRetryable() || c.attempts != 1 {
				t.Errorf("%v after %d attempts", err, c.attempts)
			}
			events := o.events(run.GetID())
			if last := events[len(events)-1]; last.Status != progress.StatusFailed || !strings.Contains(last.Error, "twilio.com/docs/errors") {
				t.Errorf("the end shows %+v", last)
			}
		})
	}
}

// A reminder that was asked for is sent to who asked, when it is due.
func TestRemindMe(t *testing.T) {
	o := newOffice(t, nil)
	run := o.start(workflows.RemindMeName, "remind-"+testenv.Prefix(t), workflows.RemindMeInput{
		At: time.Now().Add(time.Second), Text: "stretch", Message: message.Outgoing{Channel: message.ChannelSMS, To: ada},
	})
	if err := o.get(run, nil); err != nil {
		t.Fatal(err)
	}
	if got := o.sent(); !slices.Equal(got, []string{"Reminder: stretch"}) {
		t.Errorf("sent %q", got)
	}
}

// together are agents that each wait until as many are at work.
type together struct {
	agents.Agent
	all *sync.WaitGroup
}

func (g together) Run(ctx context.Context, task agents.Task, w agents.Watcher) (agents.Finding, error) {
	g.all.Done()
	g.all.Wait()
	return g.Agent.Run(ctx, task, w)
}

// The specialists work at the same time: here, none of them ends before all
// have begun.
func TestSpecialistsWorkInParallel(t *testing.T) {
	o := newOffice(t, func(o *office) {
		var all sync.WaitGroup
		all.Add(3)
		for _, name := range agents.Specialists() {
			o.m.Team[name] = together{o.m.Team[name], &all}
		}
	})
	got := o.ask("log 8h on apollo. How is overtime compensated? Remind me at 5pm")
	for _, want := range []string{"Recorded 8 h on apollo today.", "overtime.md", "I will remind you"} {
		if !strings.Contains(got.Reply, want) {
			t.Errorf("%q is not in %q", want, got.Reply)
		}
	}
}
