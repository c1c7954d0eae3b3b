package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/report"
)

// The budget of a webhook's answer: so much above a bare start of a workflow,
// in milliseconds, and so long under a hundred at once.
const (
	maxAboveMS  = 1
	maxAtOnceMS = 1000
)

// webhooks measures what a webhook of Twilio costs.
func webhooks(ctx context.Context, b *bench) error {
	if err := b.rdb.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis: %w", err)
	}
	addr, err := machine.FreeAddr()
	if err != nil {
		return err
	}
	temporal, err := machine.Start(b.report.Cores.Load, filepath.Join(b.bin, "temporald"), "--temporal-addr", addr)
	if err != nil {
		return err
	}
	defer temporal.Stop()
	if err := temporal.Ready(ctx, func(ctx context.Context) error { return answers(ctx, addr) }); err != nil {
		return err
	}
	out, err := machine.Output(ctx, b.report.Cores.Server, filepath.Join(b.bin, "webhooks"), "-redis", b.redisAddr,
		"-temporal", addr, "-pairs", fmt.Sprint(pick(b, 500, 20)), "-each", fmt.Sprint(pick(b, 10, 2)))
	if err != nil {
		return err
	}
	var result struct {
		Bare       latency.Summary `json:"bare"`
		Webhook    latency.Summary `json:"webhook"`
		AboveMS    float64         `json:"above_ms"`
		BareAtOnce latency.Summary `json:"bare_at_once"`
		AtOnce     latency.Summary `json:"at_once"`
		Concurrent int             `json:"concurrent"`
		Failed     int64           `json:"failed"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return fmt.Errorf("read what webhooks says: %w", err)
	}
	b.report.Samples = append(b.report.Samples, report.Sample{
		Run: b.report.ID, Scenario: b.scenario, Server: "api", Order: len(b.report.Samples), Result: json.RawMessage(out),
	})
	b.row(report.Row{
		What: "a webhook of Twilio, above a bare start (medians)", Unit: "ms",
		Subscriber: report.Value(result.AboveMS), Check: b.atMost(result.AboveMS, maxAboveMS, "ms"),
		Note: fmt.Sprintf("start p50 %.2f, p99 %.2f ms; webhook p50 %.2f, p99 %.2f ms", result.Bare.P50, result.Bare.P99, result.Webhook.P50, result.Webhook.P99),
	})
	b.row(report.Row{
		What: fmt.Sprintf("  %d at once: p99", result.Concurrent), Unit: "ms",
		Subscriber: report.Value(result.AtOnce.P99), Check: b.atMost(result.AtOnce.P99, maxAtOnceMS, "ms"),
		Note: fmt.Sprintf("p50 %.1f, max %.0f ms of %d; bare starts: p50 %.1f, p99 %.0f ms; Temporal and Redis share the other core",
			result.AtOnce.P50, result.AtOnce.Max, result.AtOnce.Count, result.BareAtOnce.P50, result.BareAtOnce.P99),
	})
	b.row(report.Row{What: "  webhooks not answered", Subscriber: report.Value(float64(result.Failed)), Check: none(result.Failed, "")})
	return nil
}

// answers reports whether somebody listens there: Temporal does so when it is
// ready.
func answers(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
