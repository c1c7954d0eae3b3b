// Command reports has one activity report, either a hundred thousand times a
// second or now and then, and tells as JSON how long the calls kept it and
// what was written. The runner (bench/run) starts it. Temporal is played by
// its test environment.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync/atomic"
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
	pause := f.Duration("pause", 0, "report now and then instead: the least time between two")
	count := f.Int("n", 100, "with -pause, how many reports")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := viewers.Loopback(*addr); err != nil {
		return err
	}
	if *pause > 0 {
		*during = *pause * time.Duration(*count)
	}
	if *rate < 1 || *rate > maxRate || *during <= 0 || *during > maxTime || *pause < 0 || *count < 1 {
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

	var blocks latency.Histogram
	var took time.Duration
	n := int(float64(*rate) * during.Seconds())
	if *pause > 0 {
		n = *count
	}
	work := func(ctx context.Context) error {
		// The run that the activity belongs to has begun.
		w := activity.GetInfo(ctx).WorkflowExecution
		if err := begin(ctx, store, w.ID, w.RunID); err != nil {
			return err
		}
		p := reporter.Activity(ctx)
		start := time.Now()
		if *pause > 0 {
			took = quietly(p, n, *pause)
		} else {
			took = report(p, n, *rate, &blocks)
		}
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
		Reports: n, Seconds: took.Seconds(), PerSecond: float64(n) / took.Seconds(), Block: block, Blocks: blocks.Summary(),
		Appends: counting.appends.Load(), Written: stats.Written, Merged: stats.Merged, Lost: stats.Lost,
	})
}

// Result is what was found.
type Result struct {
	Reports   int     `json:"reports"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	// Blocks is how long each Block calls in a row kept the activity.
	Block  int             `json:"block"`
	Blocks latency.Summary `json:"blocks"`
	// Appends were made; Written and so on are the reporter's counts of events.
	Appends int64 `json:"appends"`
	Written int64 `json:"written"`
	Merged  int64 `json:"merged"`
	Lost    int64 `json:"lost"`
}

// block is how many calls are timed together: reading the clock costs as much
// as a call.
const block = 100

// report makes n reports at a rate, in turn of three kinds, and returns how
// long that took.
func report(p *reporter.ActivityReporter, n, rate int, blocks *latency.Histogram) time.Duration {
	step := p.Step("packing")
	begin := time.Now()
	for i := 0; i < n; {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		at := time.Now()
		for end := min(i+block, n); i < end; i++ {
			switch i % 3 {
			case 0:
				p.Count(int64(i), int64(n))
			case 1:
				step.Percent(100 * float64(i) / float64(n))
			default:
				p.Output("word ")
			}
		}
		blocks.Add(time.Since(at))
	}
	return time.Since(begin)
}

// quietly makes n reports with a pause before each, of no even length, so that
// nothing that is done now and then always meets it or never does.
func quietly(p *reporter.ActivityReporter, n int, pause time.Duration) time.Duration {
	begin := time.Now()
	for i := range n {
		time.Sleep(pause + rand.N(pause/8))
		p.Count(int64(i+1), int64(n))
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

// counted counts appends. The activity and the runs around it make them
// beside each other.
type counted struct {
	*redisstore.Store
	appends atomic.Int64
}

// Append counts, and appends.
func (c *counted) Append(ctx context.Context, a redisstore.Append) (redisstore.Result, error) {
	c.appends.Add(1)
	return c.Store.Append(ctx, a)
}
