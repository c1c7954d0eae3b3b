package strategy_test

import (
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/runcast/runcast/pkg/handlers"
	"github.com/runcast/runcast/pkg/progress"
)

// Whoever watches keeps no run open that has returned, even where what it is
// told does not arrive: what signals it takes is what it would take with nobody
// there.
func TestWatchersKeepNoRunOpen(t *testing.T) {
	t.Parallel()
	eachThat(t, asksTemporal, func(t *testing.T, w *world) {
		w.worker()
		v := w.follow("Commanded")
		v.counts(1)
		w.away.Store(true)
		w.signal(v.id, "do", command{Return: "complete"})
		eventually(t, "return", func() bool {
			q, err := w.client.QueryWorkflow(t.Context(), v.id, "", handlers.Query)
			var s handlers.State
			return err == nil && q.Get(&s) == nil && s.Returned != ""
		})
		o := client.StartWorkflowOptions{ID: v.id, TaskQueue: w.queue}
		if _, err := w.client.SignalWithStartWorkflow(t.Context(), v.id, "do", command{Count: 77}, o, "Commanded"); err != nil {
			t.Fatal(err)
		}
		w.away.Store(false)
		w.watch(v.id, progress.Position{}).until("the count", counted(77))
	})
}
