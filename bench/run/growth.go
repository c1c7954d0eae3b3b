package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// The budget until the frame is at the viewer, on a quiet system, in ms.
const (
	maxQuietP50 = 2
	maxQuietP99 = 10
)

// quietRate is how many events a second leave the system quiet.
const quietRate = 50

// growth measures the way from an append to the viewer's frame on a quiet
// system, and how that and the rest grow with the viewers.
func growth(ctx context.Context, b *bench) error {
	sizes := pick(b, []int{10, 100, 1000, 10_000}, []int{10, 200})
	for _, ws := range []bool{false, true} {
		for i, viewers := range sizes {
			// Beyond a thousand the deliveries are what stays the same, not
			// the events: a round must end before the next event comes.
			c := trial.Config{
				WebSocket: ws, Viewers: viewers, Settle: pick(b, time.Second, 100*time.Millisecond),
				Phases: []trial.Phase{{Rate: min(20, 20_000/float64(viewers)), For: pick(b, 2*time.Second, 500*time.Millisecond)}},
			}
			trials := 1
			if i == 0 {
				// It is judged, so its p99 must not be its maximum.
				trials = b.trials()
				c.Settle, c.Phases = 0, []trial.Phase{{Rate: quietRate, For: pick(b, 7*time.Second, time.Second)}}
			}
			if err := b.grown(ctx, c, trials, i == 0); err != nil {
				return fmt.Errorf("%d viewers, %s: %w", viewers, transport(ws), err)
			}
		}
	}
	return nil
}

// grown adds what trials of one size found.
func (b *bench) grown(ctx context.Context, c trial.Config, trials int, judged bool) error {
	var p50, p99 []float64
	var events, lacks int64
	var res *trial.Result
	for round := range trials {
		var err error
		if res, err = b.try(ctx, subscriber, round, c); err != nil {
			return err
		}
		p := &res.Phases[0]
		p50, p99 = append(p50, p.Latency.P50), append(p99, p.Latency.P99)
		events, lacks = events+p.Published, lacks+p.Failures()
	}
	p := &res.Phases[0]
	what := fmt.Sprintf("append to frame, %s, %d viewers", transport(c.WebSocket), c.Viewers)
	first := report.Row{What: what + ": p50", Unit: "ms", Note: fmt.Sprintf("%d events", events)}
	second := report.Row{What: what + ": p99", Unit: "ms", Note: fmt.Sprintf(
		"max %.1f ms; %.1f µs CPU per delivery, all attached in %.2f s", p.Latency.Max, p.CPUPerDelivery, res.Attach.Seconds)}
	if c.Viewers >= 1000 {
		second.Note += fmt.Sprintf(", %.1f KiB per viewer", res.Memory.PerViewer/1024)
	}
	first, second = b.median(first, p50, maxQuietP50), b.median(second, p99, maxQuietP99)
	if !judged {
		first.Check, second.Check = nil, nil
	}
	b.row(first)
	b.row(second)
	if lacks > 0 {
		b.row(report.Row{What: what + ": lost, late, doubled, closed", Subscriber: report.Value(float64(lacks)), Check: none(lacks, "")})
	}
	return nil
}
