package reporter_test

import (
	"slices"
	"testing"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
)

// Tags are in memos, and a client that encodes payloads encodes memos: with
// its converter the worker reads them, of a run and of its child.
func TestEncodedMemo(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	encoded := converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), converter.NewZlibCodec(converter.ZlibCodecOptions{AlwaysEncode: true}))
	e.client = testenv.TemporalWith(t, client.Options{Logger: quiet(), DataConverter: encoded})
	tags := []string{"parent", "eu"}
	id := e.id()
	e.worker(func(r worker.Registry) {
		r.RegisterWorkflowWithOptions(func(workflow.Context) error { return nil }, workflow.RegisterOptions{Name: "child"})
		r.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
			ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
				WorkflowID: id + "-child", Memo: map[string]any{"runcast.tags": []string{"child"}},
			})
			return workflow.ExecuteChildWorkflow(ctx, "child").Get(ctx, nil)
		}, workflow.RegisterOptions{Name: "parent"})
	}, reporter.WithDataConverter(encoded))
	e.follow(id + "-child")
	e.execute(client.StartWorkflowOptions{ID: id, Memo: map[string]any{"runcast.tags": tags}}, "parent")
	e.theEnd(id, progress.StatusCompleted, soon)
	e.theEnd(id+"-child", progress.StatusCompleted, soon)
	for id, want := range map[string][]string{id: tags, id + "-child": {"child"}} {
		snap, err := e.store.Snapshot(t.Context(), id)
		if err != nil || !slices.Equal(snap.Tags, want) {
			t.Errorf("%s: tags %q, %v; want %q", id, snap.Tags, err, want)
		}
	}
}
