package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// maxCPURatio is the budget of the CPU time of a delivery, by the floor's.
const maxCPURatio = 1.15

// cpuPhases are the rates at which the cost of a delivery is measured.
func cpuPhases(b *bench) []trial.Phase {
	return pick(b,
		[]trial.Phase{{Rate: 20, For: 1500 * time.Millisecond}, {Rate: 80, For: 1000 * time.Millisecond}},
		[]trial.Phase{{Rate: 20, For: 300 * time.Millisecond}, {Rate: 80, For: 300 * time.Millisecond}})
}

// cpu measures what a delivery costs each server, on interleaved rounds: the
// ratios are of neighbours in time, their median counts.
func cpu(ctx context.Context, b *bench) error {
	viewers, phases := pick(b, 1000, 100), cpuPhases(b)
	for _, form := range []struct {
		name    string
		config  trial.Config
		servers []string
	}{
		{"SSE", trial.Config{Phases: phases}, []string{floor, naive, subscriber}},
		{"WebSocket", trial.Config{WebSocket: true, Phases: phases}, []string{floor, naive, subscriber}},
		{"SSE and WebSocket mixed", trial.Config{Mixed: true, Phases: phases[1:]}, []string{floor, subscriber}},
	} {
		form.config.Viewers = viewers
		var all []contestant
		for _, name := range form.servers {
			all = append(all, contestant{name, name, form.config})
		}
		c, err := b.compare(ctx, b.rounds(), all)
		if err != nil {
			return fmt.Errorf("%s: %w", form.name, err)
		}
		for p, phase := range form.config.Phases {
			ratio, spread, err := c.ratio(subscriber, floor, p)
			if err != nil {
				return err
			}
			row := report.Row{
				What: fmt.Sprintf("CPU per delivery, %s, %d viewers, %g events/s", form.name, viewers, phase.Rate), Unit: "µs",
				Floor: c.cost(floor, p), Naive: c.cost(naive, p), Subscriber: c.cost(subscriber, p),
				Check: b.atMost(ratio, maxCPURatio, "x floor"), Note: spread,
			}
			if row.Naive != nil {
				others, _, err := c.ratio(naive, floor, p)
				if err != nil {
					return err
				}
				row.Note = notes(spread, fmt.Sprintf("naive %.2f x", others))
			}
			b.row(row)
			b.row(report.Row{What: "  lost, late, doubled, closed", Floor: c.lacking(floor, p), Naive: c.lacking(naive, p),
				Subscriber: c.lacking(subscriber, p), Check: none(c.lacks[subscriber][p], "")})
		}
	}
	return nil
}
