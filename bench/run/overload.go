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
			// Who has lost events by then never gets them.
			grace := 5 * time.Second
			if name != subscriber {
				grace = time.Second
			}
			res, err := b.try(ctx, name, 0, trial.Config{
				WebSocket: ws, Viewers: viewers, Grace: grace, Phases: []trial.Phase{{Rate: rate, For: during}},
			})
			if err != nil {
				b.say("overload: %s, %s, %g events/s: %v", name, transport(ws), rate, err)
				return nil // kept with the samples
			}
			return &res.Phases[0]
		}
		short := pick(b, 2*time.Second, 500*time.Millisecond)
		f, n := at(floor, overloadRate, short), at(naive, overloadRate, short)
		var s []*trial.PhaseResult
		for range b.trials() {
			s = append(s, at(subscriber, overloadRate, pick(b, 5*time.Second, 500*time.Millisecond)))
		}
		kept := b.overloadRows(fmt.Sprintf("%d viewers x %d events/s, %s", viewers, overloadRate, transport(ws)), f, n, s)
		if !b.quick {
			b.row(end(ws, kept, viewers, at))
		}
	}
	return nil
}

// overloadRows adds what was found, trials of the subscriber among it, and
// reports whether the budget is kept.
func (b *bench) overloadRows(what string, f, n *trial.PhaseResult, s []*trial.PhaseResult) (kept bool) {
	var lacks int64
	var shares, delivered, late []float64
	var last *trial.PhaseResult
	for _, one := range s {
		if one == nil {
			b.row(report.Row{What: what + ": delivered", Unit: "1/s", Floor: perSecond(f), Naive: perSecond(n), Check: none(1, "failed")})
			return false
		}
		lacks += one.Failures()
		shares, late = append(shares, one.Actual/overloadRate), append(late, one.Latency.P99)
		delivered = append(delivered, float64(one.Delivered)/one.Seconds)
		last = one
	}
	b.row(report.Row{
		What: what + ": delivered", Unit: "1/s", Floor: perSecond(f), Naive: perSecond(n), Subscriber: report.Value(report.Median(delivered)),
		Check: b.atLeast(report.Median(shares), minPublished, "of the rate"),
		Note:  notes(report.Spread(delivered), fmt.Sprintf("%.1f events per append, the latest begun %.1f ms late", last.PerAppend, last.LatestMS)),
	})
	b.row(report.Row{
		What: what + ": lost, late, doubled, closed", Unit: "",
		Floor: lacking(f), Naive: lacking(n), Subscriber: report.Value(float64(lacks)), Check: none(lacks, ""),
	})
	b.row(b.median(report.Row{
		What: what + ": p99", Unit: "ms", Floor: p99(f), Naive: p99(n),
		Note: fmt.Sprintf("p50 %.1f, max %.0f ms; %s", last.Latency.P50, last.Latency.Max, last.Saturated()),
	}, late, maxOverloadMS))
	return lacks == 0 && report.Median(late) <= maxOverloadMS
}

// end raises the rate until the budget of overload is not kept any more, and
// says which core had nothing left then; kept says whether it was at the
// first rate. A rate at which it was only late is tried twice more, and counts
// if it is kept both times: two seconds are short, and another process on the
// core is not the server's end.
func end(ws, kept bool, viewers int, at func(string, float64, time.Duration) *trial.PhaseResult) report.Row {
	row := report.Row{What: fmt.Sprintf("%s: most that keeps this, %d viewers", transport(ws), viewers), Unit: "events/s"}
	best := 0.0
	if kept {
		best = overloadRate
	}
	for _, rate := range []float64{1500, 2000, 2500, 3000, 4000} {
		lacks := false
		try := func() (ok bool) {
			r := at(subscriber, rate, 2*time.Second)
			lacks = r == nil || r.Failures() > 0
			ok, row.Note = keeps(r, rate)
			return ok
		}
		if !try() && (lacks || !try() || !try()) {
			break
		}
		best = rate
	}
	row.Subscriber = report.Value(best)
	return row
}

// keeps reports whether the budget of overload is kept at a rate, and what is
// to be said of it.
func keeps(r *trial.PhaseResult, rate float64) (ok bool, note string) {
	if r == nil {
		return false, fmt.Sprintf("at %g the trial failed", rate)
	}
	switch {
	case r.Failures() > 0:
		note = fmt.Sprintf("at %g, %d deliveries lack", rate, r.Failures())
	case r.Actual < minPublished*rate:
		note = fmt.Sprintf("at %g the load publishes %.0f", rate, r.Actual)
	case r.Latency.P99 > maxOverloadMS:
		note = fmt.Sprintf("at %g p99 is %.0f ms", rate, r.Latency.P99)
	default:
		ok, note = true, fmt.Sprintf("at %g all is well", rate)
	}
	return ok, notes(note, r.Saturated(), fmt.Sprintf("%.1f events per append", r.PerAppend))
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
