// Command reports has one activity report a hundred thousand times a second,
// and tells as JSON how long the calls kept it and what was written. The
// runner (bench/run) starts it. Temporal is played by its test environment.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/viewers"
	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/redisstore"
	"github.com/runcast/runcast/pkg/reporter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "reports:", err)
		os.Exit(2)
	}
}

// The bounds.
const (
	maxRate = 10_000_000
	maxTime = time.Minute
)

func run(ctx context.Context, args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("reports", flag.ContinueOnError)
	addr := f.String("redis", "127.0.0.1:6379", "`address` of Redis, of this machine's loopback")
	rate := f.Int("rate", 100_000, "reports a second")
	during := f.Duration("for", time.Second, "how long")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := viewers.Loopback(*addr); err != nil {
		return err
	}
	if *rate < 1 || *rate > maxRate || *during <= 0 || *during > maxTime {
		return fmt.Errorf("out of bounds: up to %d reports a second and %s", maxRate, maxTime)
	}
	store, err := redisstore.Open(ctx, "redis://"+*addr, redisstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	counting := &counted{Store: store}
	rep := reporter.New(nil, counting)
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{rep.WorkerInterceptor()}})
	env.SetTestTimeout(2 * maxTime)

	var calls latency.Histogram
	var took time.Duration
	n := int(float64(*rate) * during.Seconds())
	work := func(ctx context.Context) error {
		// The run that the activity belongs to has begun.
		w := activity.GetInfo(ctx).WorkflowExecution
		if err := begin(ctx, store, w.ID, w.RunID); err != nil {
			return err
		}
		p := reporter.Activity(ctx)
		start := time.Now()
		took = report(p, n, *rate, &calls)
		if err := p.Flush(ctx); err != nil {
			return fmt.Errorf("flush after %s: %w", time.Since(start), err)
		}
		return nil
	}
	env.RegisterActivity(work)
	if _, err := env.ExecuteActivity(work); err != nil {
		return err
	}
	rep.Stop(ctx)
	stats := rep.Stats()
	if stats.Refused > 0 || stats.Written == 0 {
		return fmt.Errorf("the store did not take the reports: %+v", stats)
	}
	return json.NewEncoder(stdout).Encode(Result{
		Reports: n, Seconds: took.Seconds(), PerSecond: float64(n) / took.Seconds(), Calls: calls.Summary(),
		Appends: counting.appends, Written: stats.Written, Merged: stats.Merged, Lost: stats.Lost,
	})
}

// Result is what was found.
type Result struct {
	Reports   int     `json:"reports"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	// Calls is how long each call kept the activity.
	Calls latency.Summary `json:"calls"`
	// Appends were made; Written and so on are the reporter's counts of events.
	Appends int64 `json:"appends"`
	Written int64 `json:"written"`
	Merged  int64 `json:"merged"`
	Lost    int64 `json:"lost"`
}

// report makes n reports at a rate, in turn of three kinds, and returns how
// long that took.
func report(p *reporter.ActivityReporter, n, rate int, calls *latency.Histogram) time.Duration {
	step := p.Step("packing")
	begin := time.Now()
	for i := range n {
		if due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate)); i%100 == 0 {
			time.Sleep(time.Until(due))
		}
		at := time.Now()
		switch i % 3 {
		case 0:
			p.Count(int64(i), int64(n))
		case 1:
			step.Percent(100 * float64(i) / float64(n))
		default:
			p.Output("word ")
		}
		calls.Add(time.Since(at))
	}
	return time.Since(begin)
}

// begin writes the event with which a run begins.
func begin(ctx context.Context, store *redisstore.Store, id, run string) error {
	now := time.Now()
	_, err := store.Append(ctx, redisstore.Append{
		WorkflowID: id, Fence: redisstore.Fence{RunID: run, Chain: run, RunTime: now},
		Producer: redisstore.Producer{Name: "w/" + run}, Number: 1,
		Events: []progress.Event{{
			WorkflowID: id, RunID: run, Chain: run, Type: progress.TypeStarted, Status: progress.StatusRunning, Time: now,
		}},
	})
	return err
}

// counted counts appends. The reporter makes them one by one.
type counted struct {
	*redisstore.Store
	appends int64
}

// Append counts, and appends.
func (c *counted) Append(ctx context.Context, a redisstore.Append) (redisstore.Result, error) {
	c.appends++
	return c.Store.Append(ctx, a)
}
