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
// interleaved rounds with the same number of deliveries a second. The floor
// makes the same, to say how much of the difference is the kernel's: to wake a
// reader for eight writes is dearer than for eight thousand.
func topics(ctx context.Context, b *bench) error {
	many, each := pick(b, 1000, 50), 8
	viewers := many * each
	phase := trial.Phase{Rate: 3, For: pick(b, 1500*time.Millisecond, 500*time.Millisecond)}
	for _, ws := range []bool{false, true} {
		config := func(topics int) trial.Config {
			return trial.Config{WebSocket: ws, Viewers: viewers, Topics: topics, Phases: []trial.Phase{phase}}
		}
		c, err := b.compare(ctx, b.rounds(), []contestant{
			{"one", subscriber, config(1)}, {"many", subscriber, config(many)},
			{"floor, one", floor, config(1)}, {"floor, many", floor, config(many)},
		})
		if err != nil {
			return fmt.Errorf("%s: %w", transport(ws), err)
		}
		ratio, spread, err := c.ratio("many", "one", 0)
		if err != nil {
			return err
		}
		byFloor, _, err := c.ratio("many", "floor, many", 0)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%d topics x %d viewers", many, each)
		b.row(report.Row{
			What: fmt.Sprintf("CPU per delivery, %s, %s", transport(ws), what), Unit: "µs",
			Floor: c.cost("floor, many", 0), Subscriber: c.cost("many", 0), Check: b.atMost(ratio, maxTopicsRatio, "x one topic"),
			Note: notes(fmt.Sprintf("one topic x %d viewers: %.2f µs", viewers, *c.cost("one", 0)), spread, fmt.Sprintf("%.2f x floor", byFloor)),
		})
		ofFloor, spread, err := c.ratio("floor, many", "floor, one", 0)
		if err != nil {
			return err
		}
		b.row(report.Row{
			What: "  by one topic's, of the floor itself", Unit: "x", Floor: report.Value(ofFloor), Subscriber: report.Value(ratio),
			Note: notes(fmt.Sprintf("one topic x %d viewers: %.2f µs", viewers, *c.cost("floor, one", 0)), spread),
		})
		lacks := c.lacks["one"][0] + c.lacks["many"][0]
		lost := c.lacks["floor, one"][0] + c.lacks["floor, many"][0]
		b.row(report.Row{What: "  lost, late, doubled, closed", Floor: report.Value(float64(lost)), Subscriber: report.Value(float64(lacks)), Check: none(lacks, "")})
	}
	return nil
}
