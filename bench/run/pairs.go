package main

import (
	"context"
	"fmt"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// contestant is one that takes part in every round of a comparison.
type contestant struct {
	label  string
	server string
	config trial.Config
}

// contest is what the contestants' phases cost, by label and phase.
type contest struct {
	cpu   map[string][][]report.Figure // [phase][round]
	p99   map[string][][]float64
	lacks map[string][]int64 // [phase]
}

// compare has all contestants make their phases in turn, so that neighbours
// in time are compared. Nobody is always first.
func (b *bench) compare(ctx context.Context, rounds int, all []contestant) (*contest, error) {
	c := &contest{cpu: make(map[string][][]report.Figure), p99: make(map[string][][]float64), lacks: make(map[string][]int64)}
	for round := range rounds {
		for i := range all {
			one := all[(round+i)%len(all)]
			res, err := b.try(ctx, one.server, round, one.config)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.label, err)
			}
			if c.cpu[one.label] == nil {
				n := len(res.Phases)
				c.cpu[one.label], c.p99[one.label], c.lacks[one.label] = make([][]report.Figure, n), make([][]float64, n), make([]int64, n)
			}
			for p := range res.Phases {
				r := &res.Phases[p]
				c.cpu[one.label][p] = append(c.cpu[one.label][p], b.figure(r.CPUPerDelivery))
				c.p99[one.label][p] = append(c.p99[one.label][p], r.Latency.P99)
				c.lacks[one.label][p] += r.Failures()
			}
		}
		b.say("%s: round %d of %d", b.scenario, round+1, rounds)
	}
	return c, nil
}

// cost is the median of a contestant's CPU time by delivery, in µs.
func (c *contest) cost(label string, phase int) *float64 {
	if c.cpu[label] == nil {
		return nil
	}
	return report.Value(report.MedianOf(c.cpu[label][phase]))
}

// ratio is the median of the rounds' ratios of two costs, and their spread.
func (c *contest) ratio(label, by string, phase int) (float64, string, error) {
	ratios, err := report.Ratios(c.cpu[label][phase], c.cpu[by][phase])
	if err != nil {
		return 0, "", err
	}
	return report.Median(ratios), report.Spread(ratios), nil
}

// lacking returns what deliveries of a phase lacked over all rounds.
func (c *contest) lacking(label string, phase int) *float64 {
	if c.lacks[label] == nil {
		return nil
	}
	return report.Value(float64(c.lacks[label][phase]))
}
