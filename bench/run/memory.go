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
const idle = 3 * time.Second

// memory measures what viewers that get nothing cost.
func memory(ctx context.Context, b *bench) error {
	viewers := pick(b, 8000, 500)
	for _, ws := range []bool{false, true} {
		limit := float64(maxKiBSSE)
		if ws {
			limit = maxKiBWebSocket
		}
		kib := make(map[string][]float64)
		for round := range b.trials() {
			for _, name := range []string{floor, naive, subscriber} {
				if round > 0 && name != subscriber {
					continue // they are not judged
				}
				res, err := b.try(ctx, name, round, trial.Config{
					WebSocket: ws, Viewers: viewers, Settle: pick(b, idle, 200*time.Millisecond),
				})
				if err != nil {
					return fmt.Errorf("%s, %s: %w", name, transport(ws), err)
				}
				kib[name] = append(kib[name], res.Memory.PerViewer/1024)
			}
		}
		b.row(b.median(report.Row{
			What: fmt.Sprintf("resident per idle viewer, %s, %d viewers", transport(ws), viewers), Unit: "KiB",
			Floor: report.Value(kib[floor][0]), Naive: report.Value(kib[naive][0]),
		}, kib[subscriber], limit))
	}
	return nil
}
