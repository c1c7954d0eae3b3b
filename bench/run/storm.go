package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// The budget of a storm: the commands do not grow with the viewers, and none
// waits longer.
const (
	maxStormSeconds = 2
	// A comparison of heads or a reading may fall into either storm.
	stormSlack = 8
)

// storm has viewers of one topic resume at once, at a thousand different
// positions, and counts what Redis is asked meanwhile.
func storm(ctx context.Context, b *bench) error {
	small, large := pick(b, 500, 50), pick(b, 5000, 500)
	positions := pick(b, 1000, 100)
	for _, ws := range []bool{false, true} {
		var calls [2]int64
		var last *trial.Result
		var names string
		for i, viewers := range []int{small, large} {
			res, err := b.try(ctx, subscriber, 0, trial.Config{
				WebSocket: ws, Viewers: viewers, Positions: positions, Spread: time.Second,
				Phases: []trial.Phase{{Rate: 20, For: time.Second}},
			})
			if err != nil {
				return fmt.Errorf("%d viewers, %s: %w", viewers, transport(ws), err)
			}
			var parts []string
			for _, name := range slices.Sorted(maps.Keys(res.Commands)) {
				if name != "ping" { // it comes with the time, not with viewers
					calls[i] += res.Commands[name]
				}
				parts = append(parts, fmt.Sprintf("%d %s", res.Commands[name], name))
			}
			last, names = res, strings.Join(parts, ", ")
		}
		what := fmt.Sprintf("%d viewers at %d positions, %s", large, positions, transport(ws))
		b.row(report.Row{
			What: what + ": Redis commands", Subscriber: report.Value(float64(calls[1])),
			Check: &report.Check{Value: float64(calls[1] - calls[0]), Limit: stormSlack, Unit: fmt.Sprintf("more than %d viewers", small)},
			Note:  names,
		})
		b.row(report.Row{
			What: what + ": longest wait", Unit: "s", Subscriber: report.Value(last.Attach.Max / 1000),
			Check: b.atMost(last.Attach.Max/1000, maxStormSeconds, "s"),
			Note:  fmt.Sprintf("all connect within 1 s and are there after %.2f s; p50 %.2f s; %.0f events of the past delivered", last.AttachSeconds, last.Attach.P50/1000, float64(last.Resumed.Delivered)),
		})
		// Viewer i resumed i % positions events behind the first.
		var owed int64
		for i := range large {
			owed += int64(positions - i%positions)
		}
		p := &last.Phases[0]
		lacks := owed - last.Resumed.Delivered + last.Resumed.Lost + last.Resumed.Duplicates + last.Resumed.Gaps + last.Resumed.Closed + p.Failures()
		b.row(report.Row{What: what + ": lost, late, doubled, closed", Subscriber: report.Value(float64(lacks)), Check: none(lacks, "")})
	}
	return nil
}
