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
// none is lost.
const (
	reportsPerSecond = 100_000
	minReportsShare  = .97
)

// reports measures an activity that reports as often as it can think of.
func reports(ctx context.Context, b *bench) error {
	if err := b.rdb.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis: %w", err)
	}
	during := pick(b, 3*time.Second, 500*time.Millisecond)
	// The worker is the server here.
	out, err := machine.Output(ctx, b.report.Cores.Server, filepath.Join(b.bin, "reports"), "-redis", b.redisAddr,
		"-rate", fmt.Sprint(reportsPerSecond), "-for", during.String())
	if err != nil {
		return err
	}
	var result struct {
		PerSecond float64         `json:"per_second"`
		Calls     latency.Summary `json:"calls"`
		Appends   int64           `json:"appends"`
		Written   int64           `json:"written"`
		Lost      int64           `json:"lost"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return fmt.Errorf("read what reports says: %w", err)
	}
	b.report.Samples = append(b.report.Samples, report.Sample{
		Run: b.report.ID, Scenario: b.scenario, Server: "reporter", Order: len(b.report.Samples), Result: json.RawMessage(out),
	})
	b.row(report.Row{
		What: fmt.Sprintf("an activity that reports %d times a second", reportsPerSecond), Unit: "reports/s",
		Subscriber: report.Value(result.PerSecond), Check: b.atLeast(result.PerSecond/reportsPerSecond, minReportsShare, "of the rate"),
		Note: fmt.Sprintf("a call keeps it %.3f ms (p99), %.1f ms at most; %.0f appends/s of %.0f events/s", result.Calls.P99, result.Calls.Max,
			float64(result.Appends)/during.Seconds(), float64(result.Written)/during.Seconds()),
	})
	b.row(report.Row{What: "  reports lost", Subscriber: report.Value(float64(result.Lost)), Check: none(result.Lost, "")})
	return nil
}
