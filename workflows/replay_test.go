package workflows_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

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
				replayer.RegisterWorkflowWithOptions(workflows.ProgressiveWorkflow, workflow.RegisterOptions{Name: workflows.ProgressiveName})
				if err := replayer.ReplayWorkflowHistoryFromJSONFile(nil, file); err != nil {
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
