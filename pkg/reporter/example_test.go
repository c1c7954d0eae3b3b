package reporter_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

// A worker with the plugin shows all its runs, activities, attempts and
// failures.
func Example() {
	ctx := context.Background()
	c, err := client.Dial(client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	store, err := redisstore.Open(ctx, "redis://127.0.0.1:6379", redisstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	rep := reporter.New(c, store, reporter.WithReconciler(0))
	w := worker.New(c, "orders", worker.Options{Plugins: []worker.Plugin{rep}})
	w.RegisterWorkflow(Order)
	w.RegisterActivity(Pack)
	if err := reporter.EnsureReconciler(ctx, c, "orders", 0); err != nil {
		log.Fatal(err)
	}
	if err := w.Run(worker.InterruptCh()); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", rep.Stats())
}

// A client that notes what it starts: the run shows before a worker takes it.
// Its tags come from the memo.
func ExampleClientInterceptor() {
	ctx := context.Background()
	store, err := redisstore.Open(ctx, "redis://127.0.0.1:6379", redisstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	starts := reporter.ClientInterceptor(store)
	defer func() {
		// What has just been started is noted, but for a store that hangs.
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		starts.Stop(ctx)
	}()
	c, err := client.Dial(client.Options{Interceptors: []interceptor.ClientInterceptor{starts}})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, err = c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "order-42", TaskQueue: "orders",
		Memo: map[string]any{"runcast.tags": []string{"orders", "eu"}},
	}, Order)
	if err != nil {
		log.Fatal(err)
	}
}

// Pack says how far it is.
func Pack(ctx context.Context, items []string) (int, error) {
	p := reporter.Activity(ctx)
	for i, item := range items {
		p.Count(int64(i+1), int64(len(items)))
		p.Log("packed " + item)
		// Only so that the example prints the same each time: reports are
		// written by themselves.
		if err := p.Flush(ctx); err != nil {
			return 0, err
		}
	}
	return len(items), nil
}

// printing is a store that prints the events instead of keeping them.
type printing struct{}

func (printing) Append(_ context.Context, a redisstore.Append) (redisstore.Result, error) {
	for _, e := range a.Events {
		switch e.Type {
		case progress.TypeStep:
			fmt.Println("step", e.Status)
		case progress.TypeProgress:
			fmt.Println("progress", *e.Percent)
		case progress.TypeLog:
			fmt.Println("log", e.Message)
		}
	}
	return redisstore.Result{}, nil
}

func (printing) Leave(context.Context, string, redisstore.Producer) error { return nil }

func (printing) Snapshot(context.Context, string) (progress.Snapshot, error) {
	return progress.Snapshot{}, progress.ErrNotFound
}

// What an activity reports, in Temporal's test environment and without any
// server. Without the interceptor it does the same work and reports nothing.
func ExampleActivity() {
	rep := reporter.New(nil, printing{})
	defer rep.Stop(context.Background())
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet())
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{rep.WorkerInterceptor()}})
	env.RegisterActivity(Pack)
	if _, err := env.ExecuteActivity(Pack, []string{"lamp", "shade"}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// step running
	// progress 50
	// log packed lamp
	// progress 100
	// log packed shade
	// step completed
}

// Steps within an activity, one of them with streamed text.
func ExampleActivityReporter_Step() {
	write := func(ctx context.Context, tokens []string) error {
		p := reporter.Activity(ctx)
		step := p.Step("answer")
		for _, token := range tokens {
			step.Output(token)
		}
		step.End(nil)
		return nil
	}
	fmt.Println(write(context.Background(), []string{"Dear ", "customer"}))
	// Output: <nil>
}

// Order reports from workflow code: state that costs nothing, and one report
// that is kept for good.
func Order(ctx workflow.Context) error {
	w := reporter.Workflow(ctx)
	w.Count(1, 3)
	w.Message("waiting for payment")
	w.Step("payment", progress.StatusRunning, "")
	if err := workflow.Sleep(ctx, time.Hour); err != nil {
		return err
	}
	w.Step("payment", progress.StatusCompleted, "")
	percent := 66.0
	return w.Durable(reporter.Progress{Percent: &percent, Message: "paid"})
}

// Without the plugin, as here, workflow code that reports runs as it would.
func ExampleWorkflow() {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet())
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterActivityWithOptions(
		func(context.Context, reporter.Progress) error { return nil }, // activities.ReportProgress
		activity.RegisterOptions{Name: "ReportProgress"})
	env.ExecuteWorkflow(Order)
	fmt.Println(env.IsWorkflowCompleted(), env.GetWorkflowError())
	// Output: true <nil>
}
