package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// The budget from an append to the frame at the viewer, on a quiet system.
const (
	maxQuietP50 = 2
	maxQuietP99 = 10
)

// growth measures the way from an append to the viewer's frame on a quiet
// system, and how that and the rest grow with the viewers.
func growth(ctx context.Context, b *bench) error {
	sizes := pick(b, []int{10, 100, 1000, 10_000}, []int{10, 200})
	for _, ws := range []bool{false, true} {
		for i, viewers := range sizes {
			// Beyond a thousand the deliveries are what stays the same, not
			// the events: a round must end before the next event comes.
			rate := min(20, 20_000/float64(viewers))
			res, err := b.try(ctx, subscriber, 0, trial.Config{
				WebSocket: ws, Viewers: viewers, Settle: pick(b, 2*time.Second, 200*time.Millisecond),
				Phases: []trial.Phase{{Rate: rate, For: pick(b, 4*time.Second, time.Second)}},
			})
			if err != nil {
				return fmt.Errorf("%d viewers, %s: %w", viewers, transport(ws), err)
			}
			p := &res.Phases[0]
			what := fmt.Sprintf("append to frame, %s, %d viewers", transport(ws), viewers)
			p50 := report.Row{What: what + ": p50", Unit: "ms", Subscriber: report.Value(p.Latency.P50)}
			p99 := report.Row{
				What: what + ": p99", Unit: "ms", Subscriber: report.Value(p.Latency.P99),
				Note: fmt.Sprintf("max %.1f ms; %.1f µs CPU per delivery, all attached in %.2f s", p.Latency.Max, p.CPUPerDelivery, res.AttachSeconds),
			}
			if viewers >= 1000 {
				p99.Note += fmt.Sprintf(", %.1f KiB per viewer", res.Memory.PerViewer/1024)
			}
			if i == 0 {
				p50.Check, p99.Check = b.atMost(p.Latency.P50, maxQuietP50, "ms"), b.atMost(p.Latency.P99, maxQuietP99, "ms")
			}
			b.row(p50)
			b.row(p99)
			if n := p.Failures(); n > 0 {
				b.row(report.Row{What: what + ": lost, late, doubled, closed", Subscriber: report.Value(float64(n)), Check: none(n, "")})
			}
		}
	}
	return nil
}
