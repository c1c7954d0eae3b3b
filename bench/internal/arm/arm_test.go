package arm

import (
	"context"
	"errors"
	"iter"
	"maps"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/workload"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/strategy"
)

// item is what a watch yields.
type item struct {
	event progress.Event
	err   error
}

// told yields the same to all who watch.
type told []item

func (t told) Watch(context.Context, string, progress.Position) iter.Seq2[progress.Event, error] {
	return func(yield func(progress.Event, error) bool) {
		for _, i := range t {
			if !yield(i.event, i.err) {
				return
			}
		}
	}
}

func change(n, of int) item {
	p := 100 * float64(n) / float64(of)
	return item{event: progress.Event{Type: progress.TypeProgress, Percent: &p}}
}

var closed = item{event: progress.Event{Type: progress.TypeClosed}}

func TestWhatViewersSee(t *testing.T) {
	degraded := item{err: &strategy.Notice{Kind: strategy.Degraded}}
	failed := item{err: errors.New("no more")}
	for _, tt := range []struct {
		name string
		told told
		want Result // of each of two viewers
	}{
		{"all", told{change(1, 3), change(2, 3), change(3, 3), closed}, Result{Seen: 3, Ended: 1}},
		{"one is jumped over", told{change(1, 3), change(3, 3), closed}, Result{Seen: 2, Missed: 1, Ended: 1}},
		{"one comes twice", told{change(1, 3), change(3, 3), change(3, 3), closed}, Result{Seen: 2, Missed: 1, Ended: 1}},
		{"the last never comes", told{change(1, 3), change(2, 3), closed}, Result{Seen: 2, Late: 1, Ended: 1}},
		{"nothing comes", told{failed}, Result{Late: 3, Errors: map[string]int{"no more": 1}}},
		{"two ends", told{change(3, 3), closed, closed}, Result{Seen: 1, Missed: 2, Doubled: 1}},
		{"polling instead", told{degraded, change(3, 3), closed}, Result{Seen: 1, Missed: 2, Ended: 1, Notices: map[string]int{"degraded": 1}}},
	} {
		viewers := []*Viewer{{Seen: make([]int64, 3)}, {Seen: make([]int64, 3)}}
		if err := Watches(tt.told)(t.Context(), []string{"r"}, viewers, 0); err != nil {
			t.Fatal(err)
		}
		var got Result
		now := time.Now()
		sum(viewers, &got, [][]time.Time{{now, now, now}})
		if got.Seen != 2*tt.want.Seen || got.Missed != 2*tt.want.Missed || got.Late != 2*tt.want.Late || got.Ended != 2*tt.want.Ended || got.Doubled != 2*tt.want.Doubled {
			t.Errorf("%s: %+v", tt.name, got)
		}
		for _, m := range []map[string]int{tt.want.Errors, tt.want.Notices} {
			for k := range m {
				m[k] = 2
			}
		}
		if !maps.Equal(got.Errors, tt.want.Errors) || !maps.Equal(got.Notices, tt.want.Notices) {
			t.Errorf("%s: %v %v", tt.name, got.Errors, got.Notices)
		}
	}
}

// A change that was jumped over is as late as the newer one that came.
func TestLatencyOfWhatWasJumpedOver(t *testing.T) {
	begin := time.Now()
	at := func(ms int) int64 { return begin.Add(time.Duration(ms) * time.Millisecond).UnixNano() }
	viewers := []*Viewer{{Seen: []int64{at(500), 0, at(900)}}}
	var got Result
	sum(viewers, &got, [][]time.Time{{begin, begin.Add(100 * time.Millisecond), begin.Add(800 * time.Millisecond)}})
	if got.Latency.Count != 3 || got.Latency.Max < 795 || got.Latency.Max > 805 {
		t.Errorf("%+v", got.Latency)
	}
	got = Result{}
	sum(viewers, &got, [][]time.Time{nil})
	if got.Latency.Count != 0 {
		t.Errorf("a run that did not end has times: %+v", got.Latency)
	}
}

func TestHistory(t *testing.T) {
	var h History
	var markers int64
	marker := func(task int64) *historypb.HistoryEvent {
		return &historypb.HistoryEvent{EventType: enumspb.EVENT_TYPE_MARKER_RECORDED, Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{
			MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{WorkflowTaskCompletedEventId: task},
		}}
	}
	for _, e := range []*historypb.HistoryEvent{
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED},
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED},
		{EventType: enumspb.EVENT_TYPE_TIMER_STARTED},
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED},
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED},
		{EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED},
		{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED},
		{EventType: enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, Attributes: &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{
			ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{Attempt: 3},
		}},
		marker(7), marker(7), marker(9),
	} {
		h.add(e, &markers)
	}
	want := History{Events: 11, Tasks: 1, Starts: 1, Timers: 1, Signals: 1, Updates: 1, Activities: 1, Retries: 2, MarkerTasks: 2}
	if h != want || h.Own() != 2 || h.Actions() != 9 {
		t.Errorf("%+v, %d actions", h, h.Actions())
	}
}

func TestCountsAreCompared(t *testing.T) {
	r := Result{
		Runs: 1, Viewers: 2, Changes: 10, WatchMinutes: .5,
		Calls:       frontend.Counts{Made: frontend.Calls{"QueryWorkflow": 100, "GetSystemInfo": 1}, Done: frontend.Calls{"QueryWorkflow": 90}},
		WorkerCalls: frontend.Counts{Made: frontend.Calls{"RespondWorkflowTaskCompleted": 5, "PollWorkflowTaskQueue": 5}},
		OwnCalls:    frontend.Counts{Made: frontend.Calls{"QueryWorkflow": 1}},
		Server: frontend.Server{
			Calls:   frontend.Calls{"QueryWorkflow": 101, "RespondWorkflowTaskCompleted": 4, "PollWorkflowTaskQueue": 9, "SignalWorkflowExecution": 2},
			Actions: frontend.Calls{"grpc_QueryWorkflow": 90, "grpc_StartWorkflowExecution": 1, "command_StartTimer": 4},
		},
		History: History{Starts: 1, Timers: 4},
	}
	if want := (frontend.Calls{"RespondWorkflowTaskCompleted": -1, "SignalWorkflowExecution": 2}); !maps.Equal(r.Uncounted(), want) {
		t.Errorf("%v, want %v", r.Uncounted(), want)
	}
	if r.PerViewerMinute() != 202 || r.Actions() != 90 || r.CountedActions() != 90 || r.Expected() != 20 {
		t.Errorf("%v a minute, %d and %d actions, %d changes", r.PerViewerMinute(), r.Actions(), r.CountedActions(), r.Expected())
	}
}

func TestBounds(t *testing.T) {
	good := Config{
		Strategy: "poll", Runs: 1, Viewers: 2, Grace: time.Second, Workload: workload.Input{Changes: 5, Over: time.Second},
		Temporal: "127.0.0.1:1", Metrics: "127.0.0.1:2", Worker: "127.0.0.1:3", Redis: "127.0.0.1:4",
	}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"Temporal elsewhere":  func(c *Config) { c.Temporal = "192.0.2.1:7233" },
		"Redis elsewhere":     func(c *Config) { c.Redis = "192.0.2.1:6379" },
		"no run":              func(c *Config) { c.Runs = 0 },
		"too many viewers":    func(c *Config) { c.Viewers = MaxViewers + 1 },
		"nobody of a way":     func(c *Config) { c.Viewers = 0 },
		"somebody of no way":  func(c *Config) { c.Strategy = None },
		"no end":              func(c *Config) { c.Grace = 0 },
		"no changes":          func(c *Config) { c.Workload.Changes = 0 },
		"changes without end": func(c *Config) { c.Workload.Over = time.Hour },
	} {
		c := good
		change(&c)
		if c.Check() == nil {
			t.Errorf("%s is possible", name)
		}
	}
}
