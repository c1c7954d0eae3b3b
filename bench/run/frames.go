package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// testWorkflow is the workflow to which Temporal's test environment says that
// an activity belongs.
const testWorkflow = "default-test-workflow-id"

// frames measures the way from a report in an activity to the frame at the
// viewer: reporter, store, Redis and subscriber, on a quiet system. Each
// report comes after a pause, so that it is written at once.
func frames(ctx context.Context, b *bench) error {
	const viewers = 10
	c := trial.Config{Viewers: viewers, Mixed: true, Listen: testWorkflow}
	var p50, p99 []float64
	var reports, lacks, merged int64
	var longest float64
	for round := range b.trials() {
		made, res, err := b.listen(ctx, round, c, pick(b, 350, 20))
		if err != nil {
			return err
		}
		p := &res.Phases[0]
		merged += int64(made) - p.Latency.Count/viewers // a machine that halts for longer than a pause does that
		p50, p99 = append(p50, p.Latency.P50), append(p99, p.Latency.P99)
		longest = max(longest, p.Latency.Max)
		reports, lacks = reports+int64(made), lacks+p.Failures()
	}
	what := fmt.Sprintf("report to frame, %d viewers of SSE and WebSocket", viewers)
	b.row(b.median(report.Row{What: what + ": p50", Unit: "ms", Note: fmt.Sprintf("%d reports, %d merged", reports, merged)}, p50, maxQuietP50))
	b.row(b.median(report.Row{What: what + ": p99", Unit: "ms", Note: fmt.Sprintf("max %.1f ms", longest)}, p99, maxQuietP99))
	b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: report.Value(float64(lacks)), Check: none(lacks, "")})
	return nil
}

// listen has viewers follow an activity that makes n reports, and returns how
// many it made.
func (b *bench) listen(ctx context.Context, round int, c trial.Config, n int) (made int, res *trial.Result, err error) {
	s, err := b.serve(ctx, subscriber, false)
	if err != nil {
		return 0, nil, err
	}
	defer s.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stdin, hold := io.Pipe()
	defer hold.Close()
	wait, err := machine.Begin(ctx, b.report.Cores.Load, stdin, filepath.Join(b.bin, "load"), b.loadArgs(s, c)...)
	if err != nil {
		return 0, nil, err
	}
	there := func(ctx context.Context) error {
		found, err := counters(ctx, s.url)
		if err == nil && total(found, "viewers", "") < int64(c.Viewers) {
			err = errors.New("the viewers are not there yet")
		}
		return err
	}
	err = s.Ready(ctx, there)
	var text []byte
	if err == nil {
		// The worker is a machine of its own, in earnest.
		text, err = machine.Output(ctx, b.report.Cores.Load, filepath.Join(b.bin, "reports"), "-redis", b.redisAddr,
			"-pause", (60 * time.Millisecond).String(), "-n", fmt.Sprint(n))
	}
	if err != nil {
		cancel()
		_ = hold.Close() // load is waited for until nothing can come any more
		_, e := wait()
		return 0, nil, errors.Join(err, e)
	}
	_ = hold.Close() // of a pipe; it cannot fail
	out, err := wait()
	if res, err = b.loaded(ctx, s, round, c, out, err); err != nil {
		return 0, nil, err
	}
	result, err := b.reported(text, round)
	if err != nil {
		return 0, nil, err
	}
	return result.Reports, res, nil
}
