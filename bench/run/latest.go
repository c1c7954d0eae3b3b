package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// maxLatestGrowth is how much more a viewer of the latest state may cost at
// the highest rate than at the lowest: what the events themselves cost the
// server, once for all its viewers.
const maxLatestGrowth = 1.5

// latest measures what viewers of the latest state cost as the events become
// more.
func latest(ctx context.Context, b *bench) error {
	n := pick(b, 1000, 100)
	var phases []trial.Phase
	for _, rate := range []float64{20, 200, 1000} {
		phases = append(phases, trial.Phase{Rate: rate, For: pick(b, 1500*time.Millisecond, 300*time.Millisecond)})
	}
	for _, ws := range []bool{false, true} {
		found := make([][]float64, len(phases))
		frames := make([][]float64, len(phases))
		lacks := make([]int64, len(phases))
		var growth []float64
		for round := range b.trials() {
			res, err := b.try(ctx, subscriber, round, trial.Config{WebSocket: ws, Viewers: n, Latest: true, Phases: phases})
			if err != nil {
				return fmt.Errorf("%s: %w", transport(ws), err)
			}
			for i := range res.Phases {
				p := &res.Phases[i]
				share := float64(n) * p.Seconds
				found[i] = append(found[i], p.CPUSeconds/share*1e6)
				frames[i] = append(frames[i], float64(p.Delivered)/share)
				lacks[i] += p.Failures()
			}
			growth = append(growth, found[len(phases)-1][round]/found[0][round])
		}
		for i, p := range phases {
			row := report.Row{
				What: fmt.Sprintf("CPU per viewer and second, %s, %d viewers, mode=latest, %g events/s", transport(ws), n, p.Rate), Unit: "µs",
				Subscriber: report.Value(report.Median(found[i])),
				Note:       notes(report.Spread(found[i]), fmt.Sprintf("%.0f frames a second at each", report.Median(frames[i]))),
			}
			if i == len(phases)-1 {
				row.Check = b.atMost(report.Median(growth), maxLatestGrowth, fmt.Sprintf("x %g events/s", phases[0].Rate))
			}
			b.row(row)
		}
		sum := lacks[0] + lacks[1] + lacks[2]
		b.row(report.Row{What: "  late, doubled, closed", Subscriber: report.Value(float64(sum)), Check: none(sum, "")})
	}
	return nil
}

// slow measures what viewers that take nothing cost the others: pairs of
// trials with and without them.
func slow(ctx context.Context, b *bench) error {
	n, stuck := pick(b, 1000, 100), pick(b, 100, 10)
	// The first phase fills the sockets that nobody reads.
	config := trial.Config{Viewers: n, Phases: []trial.Phase{
		{Rate: 400, For: pick(b, time.Second, 300*time.Millisecond)}, {Rate: 80, For: pick(b, 1500*time.Millisecond, 300*time.Millisecond)},
	}}
	beside := config
	beside.Stuck = stuck
	c, err := b.compare(ctx, b.rounds(), []contestant{{"alone", subscriber, config}, {"beside", subscriber, beside}})
	if err != nil {
		return err
	}
	const phase = 1
	ratio, spread, err := c.ratio("beside", "alone", phase)
	if err != nil {
		return err
	}
	b.row(report.Row{
		What: fmt.Sprintf("CPU per delivery, SSE, %d viewers beside %d stuck ones", n, stuck), Unit: "µs", Subscriber: c.cost("beside", phase),
		Check: b.atMost(ratio, maxSlowRatio, "x alone"), Note: notes(fmt.Sprintf("alone %.2f µs", *c.cost("alone", phase)), spread),
	})
	alone, with := c.p99["alone"][phase], c.p99["beside"][phase]
	b.row(report.Row{
		What: "  p99 of the others", Unit: "ms", Subscriber: report.Value(report.Median(with)),
		Note: notes(fmt.Sprintf("alone %.2f ms", report.Median(alone)), report.Spread(slices.Concat(alone, with))),
	})
	lacks := c.lacks["alone"][phase] + c.lacks["beside"][phase] + c.lacks["alone"][0] + c.lacks["beside"][0]
	b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: report.Value(float64(lacks)), Check: none(lacks, "")})
	return nil
}

// maxSlowRatio: a viewer that takes nothing costs the others nothing, beyond
// what two trials differ by.
const maxSlowRatio = 1.15
