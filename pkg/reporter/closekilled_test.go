package reporter_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// deafEnv names a method of Temporal of which a child worker gets no answer.
const deafEnv = "RUNCAST_TEST_WORKER_DEAF"

// deaf returns a dial option that keeps the calls of a method for ever.
func deaf(method string) grpc.DialOption {
	return grpc.WithUnaryInterceptor(func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if m == "/temporal.api.workflowservice.v1.WorkflowService/"+method {
			<-ctx.Done()
			return ctx.Err()
		}
		return invoke(ctx, m, req, reply, cc, opts...)
	})
}

// child starts a worker in another process, on the test's queue and the given
// key prefix.
func (e *env) child(prefix, deafTo string) *exec.Cmd {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+e.queue, deafEnv+"="+deafTo,
		"RUNCAST_TEST_TEMPORAL="+testenv.TemporalAddress(e.t), "RUNCAST_TEST_REDIS="+shared.redis, "RUNCAST_TEST_PREFIX="+prefix)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	return cmd
}

func killChild(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// The worker is killed when Temporal has taken the run's end, and before
// Temporal has confirmed it. The reconciler runs in another process.
func TestCloseWorkerKilled(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	cmd := e.child(shared.prefix, "GetWorkflowExecutionHistory")
	run := e.execute(client.StartWorkflowOptions{}, doWork, Work{Wait: true})
	e.await(run.GetID(), "start", started)
	if err := e.client.SignalWorkflow(t.Context(), run.GetID(), "", "go", nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	killChild(t, cmd)
	e.theEnd(run.GetID(), progress.StatusCompleted, later)
}

// The worker is killed in the middle of a round. Another takes the round over.
func TestReconcilerKilled(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	prefix := testenv.Prefix(t)
	store, err := redisstore.Open(t.Context(), shared.redis, redisstore.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	e.store = store
	// A run that has ended, of which nobody has told.
	e.queue += "-plain"
	w := e.start(worker.Options{Plugins: []worker.Plugin{reporter.New(nil, store)}}, registerWork)
	ended := e.execute(client.StartWorkflowOptions{}, doWork, Work{Activity: true})
	if err := ended.Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.Stop()
	if n := len(closedEvents(e.events(ended.GetID()))); n != 0 {
		t.Fatalf("%d closed events", n)
	}

	e.queue += "-reconciler"
	cmd := e.child(prefix, "DescribeWorkflowExecution")
	e.store = shared.store // whose checks leave the round alone
	round, err := e.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: e.queue}, "runcast.Reconciler")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		d, err := e.client.DescribeWorkflowExecution(t.Context(), round.GetID(), "")
		if err != nil {
			t.Fatal(err)
		}
		if p := d.GetPendingActivities(); len(p) == 1 && p[0].GetLastStartedTime().IsValid() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the round does not begin")
		}
	}
	killChild(t, cmd)
	begin := time.Now()
	e.start(worker.Options{Plugins: []worker.Plugin{reporter.New(e.client, store, reporter.WithReconciler(0))}}, registerWork)
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var result reporter.Reconciliation
	if err := round.Get(ctx, &result); err != nil {
		t.Fatal(err)
	}
	// Two seconds of silence, and five until Temporal asks another worker to
	// go on with the round's workflow.
	if took := time.Since(begin); took > 12*time.Second || result.Closed != 1 {
		t.Errorf("the round took %v more, result %+v", took, result)
	}
	e.store = store
	if closed := closedEvents(e.events(ended.GetID())); len(closed) != 1 || closed[0].Status != progress.StatusCompleted {
		t.Errorf("closed = %s", list(closed))
	}
}
