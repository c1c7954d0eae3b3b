package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
)

// The budget of reports from one activity: it gets them off at this rate,
// none is lost, no call keeps it, and they are merged into the interval at
// which the reporter writes, 50 ms.
const (
	reportsPerSecond = 100_000
	minReportsShare  = .97
	maxCallUS        = 100
	maxAppends       = 1000/50 + 2 // a second; the last ones do not wait
)

// reportsResult is what the program reports says.
type reportsResult struct {
	Reports   int             `json:"reports"`
	Seconds   float64         `json:"seconds"`
	PerSecond float64         `json:"per_second"`
	Block     int             `json:"block"`
	Blocks    latency.Summary `json:"blocks"`
	Appends   int64           `json:"appends"`
	Written   int64           `json:"written"`
	Lost      int64           `json:"lost"`
}

// reported reads and keeps what the program says.
func (b *bench) reported(out []byte, round int) (r reportsResult, err error) {
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("read what reports says: %w", err)
	}
	b.report.Samples = append(b.report.Samples, report.Sample{
		Run: b.report.ID, Scenario: b.scenario, Server: "reporter", Round: round, Order: len(b.report.Samples), Result: json.RawMessage(out),
	})
	return r, nil
}

// reports measures an activity that reports as often as it can think of.
func reports(ctx context.Context, b *bench) error {
	var shares, rates, calls, appends []float64
	var lost int64
	var longest, events float64
	for round := range b.trials() {
		if err := b.rdb.FlushAll(ctx).Err(); err != nil {
			return fmt.Errorf("empty Redis: %w", err)
		}
		// The worker is the server here.
		out, err := machine.Output(ctx, b.report.Cores.Server, filepath.Join(b.bin, "reports"), "-redis", b.redisAddr,
			"-rate", fmt.Sprint(reportsPerSecond), "-for", pick(b, 2*time.Second, 500*time.Millisecond).String())
		if err != nil {
			return err
		}
		r, err := b.reported(out, round)
		if err != nil {
			return err
		}
		rates, shares = append(rates, r.PerSecond), append(shares, r.PerSecond/reportsPerSecond)
		calls, appends = append(calls, 1000*r.Blocks.P99/float64(r.Block)), append(appends, float64(r.Appends)/r.Seconds)
		lost, longest, events = lost+r.Lost, max(longest, r.Blocks.Max), float64(r.Written)/r.Seconds
	}
	b.row(report.Row{
		What: fmt.Sprintf("an activity that reports %d times a second", reportsPerSecond), Unit: "reports/s",
		Subscriber: report.Value(report.Median(rates)), Check: b.atLeast(report.Median(shares), minReportsShare, "of the rate"), Note: report.Spread(rates),
	})
	b.row(b.median(report.Row{What: "  a call keeps it, p99", Unit: "µs", Note: fmt.Sprintf("mean of 100 calls in a row; the longest hundred took %.1f ms", longest)}, calls, maxCallUS))
	b.row(b.median(report.Row{What: "  appends", Unit: "1/s", Note: fmt.Sprintf("%.0f events/s", events)}, appends, maxAppends))
	b.row(report.Row{What: "  reports lost", Subscriber: report.Value(float64(lost)), Check: none(lost, "")})
	return nil
}
