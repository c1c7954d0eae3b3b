package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// The budget of what an idle viewer keeps resident, in KiB.
const (
	maxKiBSSE       = 8
	maxKiBWebSocket = 12
)

// idle is how long nothing happens before memory is read.
const idle = 5 * time.Second

// memory measures what viewers that get nothing cost.
func memory(ctx context.Context, b *bench) error {
	viewers := pick(b, 8000, 500)
	for _, ws := range []bool{false, true} {
		limit := float64(maxKiBSSE)
		if ws {
			limit = maxKiBWebSocket
		}
		kib := make(map[string]*float64)
		for _, name := range []string{floor, naive, subscriber} {
			res, err := b.try(ctx, name, 0, trial.Config{
				WebSocket: ws, Viewers: viewers, Settle: pick(b, idle, 500*time.Millisecond),
			})
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, transport(ws), err)
			}
			kib[name] = report.Value(res.Memory.PerViewer / 1024)
		}
		b.row(report.Row{
			What: fmt.Sprintf("resident per idle viewer, %s, %d viewers", transport(ws), viewers), Unit: "KiB",
			Floor: kib[floor], Naive: kib[naive], Subscriber: kib[subscriber], Check: b.atMost(*kib[subscriber], limit, "KiB"),
		})
	}
	return nil
}
