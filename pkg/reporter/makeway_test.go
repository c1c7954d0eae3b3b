package reporter_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
)

// Temporal does not say for a while how the old chain ended: the new one
// waits, and no end is lost. (The store is the test's own, so that no
// reconciler is faster.)
func TestEndOfThePredecessorWaitsForTemporal(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	_, e.store = ownRedis(t)
	e.queue += "-deaf"
	var deaf atomic.Bool
	e.client = testenv.TemporalWith(t, client.Options{Logger: quiet(), ConnectionOptions: client.ConnectionOptions{
		DialOptions: []grpc.DialOption{grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if deaf.Load() && method == "/temporal.api.workflowservice.v1.WorkflowService/DescribeWorkflowExecution" {
				return serviceerror.NewUnavailable("for a while")
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		})},
	}})
	rep := e.worker(registerWork)
	id := e.id()
	e.execute(client.StartWorkflowOptions{ID: id}, doWork, Work{Wait: true})
	e.await(id, "start", started)
	deaf.Store(true)
	if err := e.client.TerminateWorkflow(t.Context(), id, "", "again"); err != nil {
		t.Fatal(err)
	}
	e.execute(client.StartWorkflowOptions{ID: id}, doWork, Work{Activity: true})
	deadline := time.Now().Add(within)
	for rep.Stats().Retried < 2 {
		if time.Now().After(deadline) {
			t.Fatal("nothing is tried again")
		}
		time.Sleep(5 * time.Millisecond)
	}
	deaf.Store(false)
	events := e.await(id, "second end", func(events []progress.Event) bool { return len(closedEvents(events)) == 2 })
	if closed := closedEvents(events); closed[0].Status != progress.StatusTerminated || closed[1].Status != progress.StatusCompleted {
		t.Errorf("closed = %s", list(closed))
	}
	if s := rep.Stats(); s.Unconfirmed != 0 || s.Lost != 0 {
		t.Errorf("stats = %+v", s)
	}
}
