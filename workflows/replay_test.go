package workflows_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
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
				replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Plugins: plugins})
				if err != nil {
					t.Fatal(err)
				}
				for name, w := range all {
					replayer.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
				}
				h := load(t, file)
				// The IDs of children and messages are made from the run's.
				started := h.Events[0].GetWorkflowExecutionStartedEventAttributes()
				err = replayer.ReplayWorkflowHistoryWithOptions(nil, h, worker.ReplayWorkflowHistoryOptions{
					OriginalExecution: workflow.Execution{ID: started.WorkflowId, RunID: started.OriginalExecutionRunId},
				})
				if err != nil {
					t.Error(err)
				}
			})
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
