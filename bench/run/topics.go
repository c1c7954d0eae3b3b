package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// maxTopicsRatio is the budget of a delivery of many topics by one's.
const maxTopicsRatio = 1.3

// topics measures many small audiences beside a single large one, in
// interleaved pairs with the same number of deliveries a second.
func topics(ctx context.Context, b *bench) error {
	many, each := pick(b, 1000, 50), 8
	viewers := many * each
	phase := trial.Phase{Rate: 3, For: pick(b, 1500*time.Millisecond, 500*time.Millisecond)}
	for _, ws := range []bool{false, true} {
		config := func(topics int) trial.Config {
			return trial.Config{WebSocket: ws, Viewers: viewers, Topics: topics, Phases: []trial.Phase{phase}}
		}
		c, err := b.compare(ctx, b.rounds(), []contestant{{"one", subscriber, config(1)}, {"many", subscriber, config(many)}})
		if err != nil {
			return fmt.Errorf("%s: %w", transport(ws), err)
		}
		ratio, spread, err := c.ratio("many", "one", 0)
		if err != nil {
			return err
		}
		b.row(report.Row{
			What: fmt.Sprintf("CPU per delivery, %s, %d topics x %d viewers", transport(ws), many, each), Unit: "µs",
			Subscriber: c.cost("many", 0), Check: b.atMost(ratio, maxTopicsRatio, "x one topic"),
			Note: notes(fmt.Sprintf("one topic x %d viewers: %.2f µs", viewers, *c.cost("one", 0)), spread),
		})
		lacks := c.lacks["one"][0] + c.lacks["many"][0]
		b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: report.Value(float64(lacks)), Check: none(lacks, "")})
	}
	return nil
}
