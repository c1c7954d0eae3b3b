package workflows_test

import (
	"flag"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/message"
	"github.com/runcast/runcast/pkg/reporter"
	"github.com/runcast/runcast/workflows"
)

var record = flag.Bool("record", false, "record the histories in testdata anew")

// recorded are the inputs whose runs testdata holds the histories of.
var recorded = map[string]workflows.ProgressiveInput{
	"progressive.json":           {Steps: 3, StepMS: 20, Output: true},
	"progressive-failed.json":    {Steps: 3, StepMS: 20, FailAt: 2},
	"progressive-continued.json": {Steps: 3, StepMS: 20, ContinueAt: 2},
}

// all are the workflows by their types.
var all = map[string]any{
	workflows.ProgressiveName:    workflows.ProgressiveWorkflow,
	message.ConversationWorkflow: workflows.MultiAgentConversationWorkflow,
	message.ReminderWorkflow:     workflows.TimesheetReminderWorkflow,
	message.DailyWorkflow:        workflows.DailyReminderScheduleWorkflow,
	workflows.RemindMeName:       workflows.RemindMeWorkflow,
}

// messagingVersion is in the names of the histories that are recorded now.
// Raise it with a change of a workflow and keep the files of the versions
// before: runs that began with them go on.
const messagingVersion = "v2"

// recordMessaging records runs of the messaging application.
func recordMessaging(t *testing.T) {
	c := &carrier{status: message.StatusQueued}
	o := newOffice(t, func(o *office) { o.m.Carrier = c })
	keep := func(name string, run client.WorkflowRun) {
		first := run.GetRunID()
		if err := o.get(run, nil); err != nil {
			t.Fatal(err)
		}
		save(t, name+"-"+messagingVersion+".json", o.client, run.GetID(), first)
	}
	in := o.inbound("log 8h on apollo and remind me in 2 hours")
	in.StatusCallback = "http://api.example/webhooks/twilio/status"
	run := o.converse(in)
	eventually(t, "message", func() bool { return c.count() == 1 })
	for _, status := range []message.Status{message.StatusSent, message.StatusDelivered} {
		if err := o.client.SignalWorkflow(t.Context(), run.GetID(), "", message.StatusSignal, message.Receipt{SID: c.receipt(1).SID, Status: status}); err != nil {
			t.Fatal(err)
		}
	}
	keep("conversation", run)
	_ = o.client.TerminateWorkflow(t.Context(), run.GetID()+"-remind-1", "", "the test is over")
	in = o.inbound("hello")
	in.Wait = time.Minute
	run = o.converse(in)
	if _, err := o.claim(run.GetID()); err != nil {
		t.Fatal(err)
	}
	keep("conversation-claimed", run)
	keep("conversation-stop", o.converse(o.inbound("STOP")))
	keep("reminder", o.start(message.ReminderWorkflow, "reminder-"+testenv.Prefix(t), message.ReminderInput{
		Channel: message.ChannelSMS, To: "+61491570157", TimeZone: zone, Wait: time.Second, EscalateTo: "+61491570158",
	}))
	keep("daily", o.start(message.DailyWorkflow, "daily-"+testenv.Prefix(t), message.DailyInput{Parallel: 2, Users: []message.ReminderInput{
		{Channel: message.ChannelSMS, To: "+61491570157", TimeZone: zone, Wait: time.Second}, {Channel: message.ChannelSMS, To: ada}, {},
	}}))
	keep("remindme", o.start(workflows.RemindMeName, "remind-"+testenv.Prefix(t), workflows.RemindMeInput{
		At: time.Now().Add(time.Second), Message: message.Outgoing{Channel: message.ChannelPage, To: "+61491570157"},
	}))
}

// Histories that were recorded from real runs go on as they began, with the
// plugin on the worker and without it. When a workflow has to change so that
// they do not, runs that are under way would break too: version it.
func TestReplay(t *testing.T) {
	if *record {
		for name, in := range recorded {
			r := run(t, in)
			first := r.events[0].RunID
			save(t, name, r.client, r.run.GetID(), first)
		}
	}
	if *record {
		recordMessaging(t)
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < len(recorded) {
		t.Fatalf("there are %d histories, %v", len(files), err)
	}
	for _, file := range files {
		for name, plugins := range map[string][]worker.Plugin{"without": nil, "with": {reporter.New(nil, nil)}} {
			t.Run(filepath.Base(file)+" "+name+" plugin", func(t *testing.T) {
				if err := replay(t, load(t, file), plugins, all); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func replay(t *testing.T, h *historypb.History, plugins []worker.Plugin, code map[string]any) error {
	t.Helper()
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: plugins})
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range code {
		replayer.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
	}
	// The IDs of children and messages are made from the run's.
	started := h.Events[0].GetWorkflowExecutionStartedEventAttributes()
	logger := sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)) // it says again what the error says
	return replayer.ReplayWorkflowHistoryWithOptions(logger, h, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: started.WorkflowId, RunID: started.OriginalExecutionRunId},
	})
}

// Every workflow has a history, and none of them survives a change that a run
// under way would not: here, that a workflow does one thing more at first, or
// leaves out all that it did.
func TestReplayNoticesChanges(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	missing := maps.Clone(all)
	for _, file := range files {
		h := load(t, file)
		name := h.Events[0].GetWorkflowExecutionStartedEventAttributes().WorkflowType.Name
		delete(missing, name)
		for what, changed := range map[string]any{
			"does more": doesMore(all[name]),
			"does less": func(workflow.Context, converter.EncodedValue) error { return nil },
		} {
			// TMPRL1100 is Temporal's name of a replay that goes another way.
			if err := replay(t, h, nil, map[string]any{name: changed}); err == nil || !strings.Contains(err.Error(), "TMPRL1100") {
				t.Errorf("%s: %s: the replay says %v", filepath.Base(file), what, err)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("there is no history of %v", slices.Collect(maps.Keys(missing)))
	}
}

// doesMore is a workflow that is changed to run an activity before it begins.
func doesMore(w any) any {
	f := reflect.ValueOf(w)
	return reflect.MakeFunc(f.Type(), func(args []reflect.Value) []reflect.Value {
		ctx := workflow.WithActivityOptions(args[0].Interface().(workflow.Context), workflow.ActivityOptions{StartToCloseTimeout: time.Second})
		workflow.ExecuteActivity(ctx, "SomethingNew")
		return f.Call(args)
	}).Interface()
}

// Each activity of each workflow says itself how long it may take, in all
// and in each attempt, and how it is tried again.
func TestActivitiesHaveTimeouts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		for _, event := range load(t, file).Events {
			a := event.GetActivityTaskScheduledEventAttributes()
			if a == nil {
				continue
			}
			name := a.ActivityType.Name
			seen[name] = true
			whole, attempt := a.ScheduleToCloseTimeout.AsDuration(), a.StartToCloseTimeout.AsDuration()
			if messaging := !strings.HasPrefix(filepath.Base(file), "progressive"); messaging && (whole <= 0 || whole > time.Hour || attempt >= whole) || attempt <= 0 || a.RetryPolicy.GetInitialInterval().AsDuration() <= 0 {
				t.Errorf("%s: %s: %v in all, %v an attempt, %v", filepath.Base(file), name, whole, attempt, a.RetryPolicy)
			}
		}
	}
	for _, name := range []string{"Recall", "RunAgent", "Remember", "OptOut", "Send", "KeepStatus", "DueHours", "AwaitNoMore"} {
		if !seen[name] {
			t.Errorf("no history has the activity %s", name)
		}
	}
}

func save(t *testing.T, name string, c client.Client, id, runID string) {
	t.Helper()
	var h historypb.History
	it := c.GetWorkflowHistory(t.Context(), id, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	text, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", name), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, file string) *historypb.History {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}
