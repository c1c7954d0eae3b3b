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
	phase := trial.Phase{Rate: 3, For: pick(b, 3*time.Second, time.Second)}
	for _, ws := range []bool{false, true} {
		var one, lots []report.Figure
		var lacks int64
		for round := range b.rounds() {
			for _, n := range []int{1, many} {
				res, err := b.try(ctx, subscriber, round, trial.Config{WebSocket: ws, Viewers: viewers, Topics: n, Phases: []trial.Phase{phase}})
				if err != nil {
					return fmt.Errorf("%d topics, %s: %w", n, transport(ws), err)
				}
				p := &res.Phases[0]
				lacks += p.Failures()
				if n == 1 {
					one = append(one, b.figure(p.CPUPerDelivery))
				} else {
					lots = append(lots, b.figure(p.CPUPerDelivery))
				}
			}
		}
		ratios, err := report.Ratios(lots, one)
		if err != nil {
			return err
		}
		b.row(report.Row{
			What: fmt.Sprintf("CPU per delivery, %s, %d topics x %d viewers", transport(ws), many, each), Unit: "µs",
			Subscriber: report.Value(report.MedianOf(lots)), Check: b.atMost(report.Median(ratios), maxTopicsRatio, "x one topic"),
			Note: fmt.Sprintf("one topic x %d viewers: %.2f µs", viewers, report.MedianOf(one)),
		})
		b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: report.Value(float64(lacks)), Check: none(lacks, "")})
	}
	return nil
}
