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

// cpu measures what a delivery costs each server, on interleaved rounds: the
// ratios are of neighbours in time, their median counts.
func cpu(ctx context.Context, b *bench) error {
	viewers := pick(b, 1000, 100)
	phases := pick(b,
		[]trial.Phase{{Rate: 20, For: 3 * time.Second}, {Rate: 80, For: 1500 * time.Millisecond}},
		[]trial.Phase{{Rate: 20, For: 500 * time.Millisecond}, {Rate: 80, For: 500 * time.Millisecond}})
	servers := []string{floor, naive, subscriber}
	type key struct {
		ws     bool
		phase  int
		server string
	}
	found := make(map[key][]report.Figure)
	lacks := make(map[key]int64)
	for round := range b.rounds() {
		for _, ws := range []bool{false, true} {
			for i := range servers {
				name := servers[(round+i)%len(servers)] // nobody is always first
				res, err := b.try(ctx, name, round, trial.Config{WebSocket: ws, Viewers: viewers, Phases: phases})
				if err != nil {
					return fmt.Errorf("%s, %s: %w", name, transport(ws), err)
				}
				for p := range res.Phases {
					k := key{ws, p, name}
					found[k] = append(found[k], b.figure(res.Phases[p].CPUPerDelivery))
					lacks[k] += res.Phases[p].Failures()
				}
			}
		}
		b.say("cpu: round %d of %d", round+1, b.rounds())
	}
	for _, ws := range []bool{false, true} {
		for p, phase := range phases {
			f, n, s := found[key{ws, p, floor}], found[key{ws, p, naive}], found[key{ws, p, subscriber}]
			what := fmt.Sprintf("CPU per delivery, %s, %d viewers, %g events/s", transport(ws), viewers, phase.Rate)
			ratios, err := report.Ratios(s, f)
			if err != nil {
				return err
			}
			others, err := report.Ratios(n, f)
			if err != nil {
				return err
			}
			b.row(report.Row{
				What: what, Unit: "µs", Floor: report.Value(report.MedianOf(f)), Naive: report.Value(report.MedianOf(n)),
				Subscriber: report.Value(report.MedianOf(s)), Check: b.atMost(report.Median(ratios), maxCPURatio, "x floor"),
				Note: fmt.Sprintf("naive %.2f x", report.Median(others)),
			})
			b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: report.Value(float64(lacks[key{ws, p, subscriber}])),
				Floor: report.Value(float64(lacks[key{ws, p, floor}])), Naive: report.Value(float64(lacks[key{ws, p, naive}])),
				Check: none(lacks[key{ws, p, subscriber}], "")})
		}
	}
	return nil
}
