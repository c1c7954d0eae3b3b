package workflows_test

import (
	"cmp"
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/delivery"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/pkg/webhook"
	"github.com/runcast/runcast/workflows"
)

// followed is a workflow of this package as it is followed.
type followed struct {
	workflow string
	// input is made when the workflow is started.
	input func() any
	// during is true of a state that comes while the run goes on, last of the
	// one before its end.
	during, last func(progress.Event) bool
	// runs is how many the chain has.
	runs int
}

// All workflows are followed in all ways, at the same time, and none of them
// does anything for it.
func TestAllAreFollowedInAllWays(t *testing.T) {
	says := func(text string) func(progress.Event) bool {
		return func(e progress.Event) bool { return e.Message == text }
	}
	step := func(name string, s progress.Status) func(progress.Event) bool {
		return func(e progress.Event) bool { return e.Step == name && e.Status == s }
	}
	rows := []followed{
		{
			workflow: workflows.ProgressiveName, runs: 2,
			input:  func() any { return workflows.ProgressiveInput{Steps: 3, StepMS: 1500, ContinueAt: 3} },
			during: step("Step 2", progress.StatusQueued), last: step("Step 3", progress.StatusCompleted),
		},
		{
			workflow: message.ConversationWorkflow,
			input: func() any {
				return message.ConversationInput{Wait: 4 * time.Second, Message: message.Inbound{
					Channel: message.ChannelSMS, SID: "SM1", From: ada, To: ours, Text: "how many hours today?", ReceivedAt: time.Now().UTC(),
				}}
			},
			during: says("The reply waits for who asked."),
			last:   func(e progress.Event) bool { return e.Percent != nil && *e.Percent == 100 && e.Message == "Sent." },
		},
		{
			workflow: message.ReminderWorkflow,
			input: func() any {
				return message.ReminderInput{Channel: message.ChannelSMS, To: ada, Wait: 2 * time.Second}
			},
			during: says("Waiting for the hours."), last: says("Nobody has answered."),
		},
		{
			workflow: message.DailyWorkflow,
			input: func() any {
				return workflows.DailyState{DailyInput: message.DailyInput{
					Users: []message.ReminderInput{{Channel: message.ChannelSMS, To: ada, Wait: time.Second, Reminders: 1}},
				}}
			},
			during: func(progress.Event) bool { return true }, // it is over at once
			last: func(e progress.Event) bool {
				return e.Current != nil && *e.Current == 1 && *e.Total == 1 && e.Message == "1 reminded, 0 skipped, 0 failed."
			},
		},
		{
			workflow: workflows.RemindMeName,
			input: func() any {
				return workflows.RemindMeInput{
					At: time.Now().Add(4 * time.Second), Message: message.Outgoing{Channel: message.ChannelSMS, From: ours, To: ada},
				}
			},
			during: func(e progress.Event) bool { return e.Step == "" && e.Message != "" }, last: step(workflows.DeliveryStep, progress.StatusCompleted),
		},
	}
	var types []string
	for _, r := range rows {
		types = append(types, r.workflow)
	}
	if slices.Sort(types); !slices.Equal(types, workflows.Types()) {
		t.Fatalf("the rows are of %q, the workflows are %q", types, workflows.Types())
	}
	for _, r := range rows {
		t.Run(r.workflow, func(t *testing.T) {
			t.Parallel()
			r.follow(t)
		})
	}
}

// follow runs the workflow with a viewer of each strategy.
func (r *followed) follow(t *testing.T) {
	keys, err := webhook.ParseKeys("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	if err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, func(o *office) { o.also = func(w worker.Registry) { deliver(t, w, keys) } })
	ways := waysToFollow(t, o, keys)
	run := o.start(r.workflow, "followed-"+testenv.Prefix(t), r.input())
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	saw := make(map[string]chan []progress.Event, len(ways))
	for name, s := range ways {
		c := make(chan []progress.Event, 1)
		saw[name] = c
		go func() {
			defer close(c)
			var events []progress.Event
			for e, err := range s.Watch(ctx, run.GetID(), progress.Position{}) {
				switch notice := (*strategy.Notice)(nil); {
				case err == nil:
					events = append(events, e)
				// A busy machine is no news here.
				case errors.As(err, &notice) && (notice.Kind == strategy.Stale || notice.Kind == strategy.Live):
				default:
					t.Errorf("%s: %v", name, err)
				}
			}
			c <- events
		}()
	}
	ends := make(map[string]progress.Event)
	for _, name := range strategy.Names() {
		events := <-saw[name]
		if end, ok := r.check(t, name, events); ok && name != strategy.Redis {
			ends[name] = end
		}
	}
	for name, e := range ends {
		// Who is told of a return learns of one, too, that a failed task has
		// undone, and may have counted further by it.
		polled, told := ends[strategy.Poll], name == strategy.Signal || name == strategy.Push
		if e.Epoch != polled.Epoch || e.RunID != polled.RunID || e.Seq < polled.Seq || e.Seq > polled.Seq && !told {
			t.Errorf("the end is %v of %s by poll, %v of %s by %s", polled.Position(), polled.RunID, e.Position(), e.RunID, name)
		}
	}
}

// check checks what one viewer saw and returns the end.
func (r *followed) check(t *testing.T, name string, events []progress.Event) (end progress.Event, ok bool) {
	t.Helper()
	closed, runs := 0, map[string]bool{}
	var before progress.Event
	for i, e := range events {
		runs[e.RunID] = true
		if e.Type == progress.TypeClosed {
			closed++
		}
		after := cmp.Compare(e.Epoch, before.Epoch)
		if after < 0 || after == 0 && e.Seq <= before.Seq {
			t.Errorf("%s: event %d is at %v, behind %v", name, i, e.Position(), before.Position())
		}
		before = e
	}
	n := len(events)
	if n < 2 || closed != 1 || events[n-1].Type != progress.TypeClosed {
		t.Errorf("%s: %d events, %d of them ends: %+v", name, n, closed, events)
		return end, false
	}
	end = events[n-1]
	if end.Status != progress.StatusCompleted {
		t.Errorf("%s: it ended as %s: %s", name, end.Status, end.Error)
	}
	if len(runs) > max(r.runs, 1) || name != strategy.Poll && len(runs) != max(r.runs, 1) {
		t.Errorf("%s: %d runs were seen", name, len(runs))
	}
	if !slices.ContainsFunc(events[:n-1], r.during) {
		t.Errorf("%s: what it does while it runs was not seen, but %+v", name, events)
	}
	// In Redis there are events of the activities' as well: the last one may be
	// one of them.
	if name != strategy.Redis && !r.last(events[n-2]) || name == strategy.Redis && !slices.ContainsFunc(events[:n-1], r.sawLast()) {
		t.Errorf("%s: the last state is %+v", name, events[n-2])
	}
	return end, true
}

// sawLast is last of what events, which tell what has changed, add up to.
func (r *followed) sawLast() func(progress.Event) bool {
	var all progress.Event
	return func(e progress.Event) bool {
		if e.Percent != nil {
			all.Percent = e.Percent
		}
		if e.Total != nil {
			all.Current, all.Total = e.Current, e.Total
		}
		if e.Message != "" {
			all.Message = e.Message
		}
		all.Step, all.Status = e.Step, e.Status
		return r.last(all)
	}
}

// deliver registers what tells subscribers.
func deliver(t *testing.T, w worker.Registry, keys webhook.Keys) {
	t.Helper()
	allow, err := webhook.ParseAllow("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	sender, err := webhook.NewSender(webhook.Options{Keys: keys, Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	delivery.New(delivery.Options{Sender: sender}).Register(w)
}

// waysToFollow returns all strategies, by name.
func waysToFollow(t *testing.T, o *office, keys webhook.Keys) map[string]strategy.Strategy {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	receiver, err := strategy.NewReceiver(keys, "http://"+s.Listener.Addr().String()+"/callback")
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Handler = receiver
	s.Start()
	t.Cleanup(s.Close)
	pipeline := strategy.NewRedis(o.progress, strategy.RedisOptions{Temporal: o.client})
	t.Cleanup(func() { pipeline.Close() })
	return map[string]strategy.Strategy{
		strategy.Poll:     strategy.NewPoll(o.client, strategy.PollOptions{}),
		strategy.Adaptive: strategy.NewAdaptive(o.client, strategy.AdaptiveOptions{Max: time.Second}),
		strategy.Update:   strategy.NewUpdate(o.client, strategy.UpdateOptions{}),
		strategy.Signal:   strategy.NewSignal(o.client, receiver, strategy.SubscribeOptions{}),
		strategy.Push:     strategy.NewPush(o.client, receiver, strategy.SubscribeOptions{}),
		strategy.Redis:    pipeline,
	}
}
