package main

import (
	"context"
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// The budget under overload: every event, nobody closed, p99 at most this.
const (
	overloadRate  = 1000
	maxOverloadMS = 100
	// The load keeps up if it published at least this share of the rate.
	minPublished = .97
)

// overload measures a million deliveries a second, and where it ends.
func overload(ctx context.Context, b *bench) error {
	viewers := pick(b, 1000, 100)
	for _, ws := range []bool{false, true} {
		at := func(name string, rate float64, during time.Duration) *trial.PhaseResult {
			res, err := b.try(ctx, name, 0, trial.Config{
				WebSocket: ws, Viewers: viewers, Grace: 5 * time.Second, Phases: []trial.Phase{{Rate: rate, For: during}},
			})
			if err != nil {
				b.say("overload: %s, %s, %g events/s: %v", name, transport(ws), rate, err)
				return nil // kept with the samples
			}
			return &res.Phases[0]
		}
		what := fmt.Sprintf("%d viewers x %d events/s, %s", viewers, overloadRate, transport(ws))
		short := pick(b, 2*time.Second, time.Second)
		all := report.Row{What: what + ": delivered", Unit: "1/s"}
		f, n := at(floor, overloadRate, short), at(naive, overloadRate, short)
		s := at(subscriber, overloadRate, pick(b, 10*time.Second, time.Second))
		all.Floor, all.Naive, all.Subscriber = perSecond(f), perSecond(n), perSecond(s)
		if s == nil {
			all.Check = none(1, "failed")
			b.row(all)
			continue
		}
		if s.Actual < minPublished*overloadRate {
			all.Note = fmt.Sprintf("the load published %.0f/s only", s.Actual)
		}
		all.Check = b.atLeast(s.Actual/overloadRate, minPublished, "of the rate")
		b.row(all)
		b.row(report.Row{
			What: what + ": lost, late, doubled, closed", Unit: "",
			Floor: lacking(f), Naive: lacking(n), Subscriber: lacking(s), Check: none(s.Failures(), ""),
		})
		b.row(report.Row{
			What: what + ": p99", Unit: "ms", Floor: p99(f), Naive: p99(n), Subscriber: p99(s),
			Check: b.atMost(s.Latency.P99, maxOverloadMS, "ms"),
			Note:  fmt.Sprintf("p50 %.1f, max %.0f ms; server CPU %.2f of a core", s.Latency.P50, s.Latency.Max, s.CPUSeconds/s.Seconds),
		})
		if !b.quick {
			b.row(end(ws, s.Failures() == 0 && s.Latency.P99 <= maxOverloadMS, viewers, at))
		}
	}
	return nil
}

// end raises the rate until the budget of overload is not kept any more; kept
// says whether it was at the first rate.
func end(ws, kept bool, viewers int, at func(string, float64, time.Duration) *trial.PhaseResult) report.Row {
	row := report.Row{What: fmt.Sprintf("%s: most that keeps this, %d viewers", transport(ws), viewers), Unit: "events/s"}
	best := 0.0
	if kept {
		best = overloadRate
	}
	for _, rate := range []float64{1500, 2000, 2500, 3000, 4000} {
		r := at(subscriber, rate, 3*time.Second)
		switch {
		case r == nil:
			row.Note = fmt.Sprintf("at %g the trial failed", rate)
		case r.Failures() > 0:
			row.Note = fmt.Sprintf("at %g, %d deliveries lack", rate, r.Failures())
		case r.Actual < minPublished*rate:
			row.Note = fmt.Sprintf("at %g the load publishes %.0f", rate, r.Actual)
		case r.Latency.P99 > maxOverloadMS:
			row.Note = fmt.Sprintf("at %g p99 is %.0f ms", rate, r.Latency.P99)
		default:
			best = rate
			continue
		}
		break
	}
	row.Subscriber = report.Value(best)
	return row
}

// perSecond returns how many deliveries there were a second, until the last.
func perSecond(p *trial.PhaseResult) *float64 {
	if p == nil || p.Seconds == 0 {
		return nil
	}
	return report.Value(float64(p.Delivered) / p.Seconds)
}

func lacking(p *trial.PhaseResult) *float64 {
	if p == nil {
		return nil
	}
	return report.Value(float64(p.Failures()))
}

func p99(p *trial.PhaseResult) *float64 {
	if p == nil {
		return nil
	}
	return report.Value(p.Latency.P99)
}
