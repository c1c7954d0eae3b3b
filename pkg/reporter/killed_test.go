package reporter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// workerEnv tells the test binary to be a worker on the named queue, which
// gets stuck in every activity, until it is killed.
const workerEnv = "RUNCAST_TEST_WORKER_QUEUE"

func runChildWorker() error {
	ctx := context.Background()
	c, err := client.Dial(client.Options{HostPort: os.Getenv("RUNCAST_TEST_TEMPORAL"), Logger: quiet(), ConnectionOptions: client.ConnectionOptions{
		DialOptions: []grpc.DialOption{deaf(os.Getenv(deafEnv))},
	}})
	if err != nil {
		return err
	}
	store, err := redisstore.Open(ctx, os.Getenv("RUNCAST_TEST_REDIS"), redisstore.Options{Prefix: os.Getenv("RUNCAST_TEST_PREFIX")})
	if err != nil {
		return err
	}
	w := worker.New(c, os.Getenv(workerEnv), worker.Options{Plugins: []worker.Plugin{reporter.New(c, store, reporter.WithReconciler(0))}})
	registerStuck(w, true)
	registerWork(w)
	return w.Run(worker.InterruptCh())
}

func registerStuck(r worker.Registry, stuck bool) {
	r.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			Summary: "Carry", StartToCloseTimeout: time.Minute, HeartbeatTimeout: time.Second,
			RetryPolicy: &temporal.RetryPolicy{InitialInterval: 50 * time.Millisecond},
		})
		return workflow.ExecuteActivity(ctx, "carry").Get(ctx, nil)
	}, workflow.RegisterOptions{Name: "carrying"})
	r.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{Summary: "Carry", StartToCloseTimeout: time.Minute})
		return workflow.ExecuteLocalActivity(ctx, "carry").Get(ctx, nil)
	}, workflow.RegisterOptions{Name: "carrying locally"})
	r.RegisterActivityWithOptions(func(ctx context.Context) error {
		p := reporter.Activity(ctx)
		p.Output("begun ")
		p.Percent(10)
		if stuck {
			<-ctx.Done()
			return errors.New("not to be seen")
		}
		p.Percent(90)
		p.Output("done")
		return nil
	}, activity.RegisterOptions{Name: "carry"})
}

// kill starts a worker in another process, runs the workflow until its
// activity has reported, and kills the worker there.
func (e *env) kill(workflowType string) (id string) {
	e.t.Helper()
	cmd := e.child(shared.prefix, "")
	run := e.execute(client.StartWorkflowOptions{WorkflowTaskTimeout: 2 * time.Second}, workflowType)
	e.await(run.GetID(), "report", func(events []progress.Event) bool {
		return len(only(events, isOutput)) > 0
	})
	killChild(e.t, cmd)
	return run.GetID()
}

func isOutput(e progress.Event) bool { return e.Type == progress.TypeOutput }

func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	id := e.kill("carrying")
	e.worker(func(r worker.Registry) { registerStuck(r, false) })
	e.theEnd(id, progress.StatusCompleted, soon)
	e.twoExecutions(id, 2)
}

// A local activity is executed again under the same ID and attempt: what the
// second execution says is new, not a repetition.
func TestLocalActivityAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	id := e.kill("carrying locally")
	e.worker(func(r worker.Registry) { registerStuck(r, false) })
	e.theEnd(id, progress.StatusCompleted, soon)
	e.twoExecutions(id, 1)
}

// twoExecutions fails unless the stream shows both executions, whole.
func (e *env) twoExecutions(id string, second int) {
	e.t.Helper()
	events := e.events(id)
	text := ""
	for _, ev := range only(events, isOutput) {
		text += fmt.Sprintf("%d:%s ", ev.Attempt, ev.Data)
	}
	if want := fmt.Sprintf(`1:"begun " %d:"begun done" `, second); text != want && text != fmt.Sprintf(`1:"begun " %d:"begun " %[1]d:"done" `, second) {
		e.t.Errorf("the output is %s, want %s:\n%s", text, want, list(events))
	}
	for _, ev := range events {
		if ev.Lost != 0 {
			e.t.Errorf("lost %d:\n%s", ev.Lost, list(events))
		}
	}
}
