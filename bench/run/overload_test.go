package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/bench/internal/trial"
)

func TestEndOfOverload(t *testing.T) {
	whole := func(rate float64) *trial.PhaseResult {
		p := &trial.PhaseResult{Rate: rate, Actual: rate, Expected: 10, Seconds: 2, CPUSeconds: 1.96, LoadCPUSeconds: 1, RedisCPUSeconds: .5}
		p.Delivered, p.Latency.P99 = 10, 50
		return p
	}
	for name, tt := range map[string]struct {
		kept   bool
		change func(*trial.PhaseResult) *trial.PhaseResult
		want   float64
		note   string
	}{
		"late":        {true, func(p *trial.PhaseResult) *trial.PhaseResult { p.Latency.P99 = 101; return p }, 1500, "p99"},
		"losses":      {true, func(p *trial.PhaseResult) *trial.PhaseResult { p.Lost = 1; return p }, 1500, "lack"},
		"weak load":   {true, func(p *trial.PhaseResult) *trial.PhaseResult { p.Actual = 1500; return p }, 1500, "publishes"},
		"failed":      {true, func(*trial.PhaseResult) *trial.PhaseResult { return nil }, 1500, "failed"},
		"no end":      {true, nil, 4000, ""},
		"none at all": {false, func(*trial.PhaseResult) *trial.PhaseResult { return nil }, 1500, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			row := end(false, tt.kept, 1000, func(server string, rate float64, _ time.Duration) *trial.PhaseResult {
				if server != subscriber {
					t.Errorf("%s is measured", server)
				}
				p := whole(rate)
				if rate >= 2000 && tt.change != nil {
					p = tt.change(p)
				}
				return p
			})
			if failed := tt.note == "failed"; !failed && !strings.Contains(row.Note, "the server's core saturated: server 98 %, load 50 % + Redis 25 %") {
				t.Errorf("which core was it? %q", row.Note)
			}
			if *row.Subscriber != tt.want || !strings.Contains(row.Note, tt.note) {
				t.Errorf("%v, %q", *row.Subscriber, row.Note)
			}
		})
	}
}

// What was late once is tried again; what lacked something is not.
func TestEndOfOverloadIsNoHiccup(t *testing.T) {
	for name, tt := range map[string]struct {
		late, lost []int // which of the trials
		want       float64
		trials     int
	}{
		"never":           {nil, nil, 4000, 5},
		"once":            {[]int{1}, nil, 4000, 7},
		"twice":           {[]int{1, 3}, nil, 1500, 4},
		"twice in a row":  {[]int{1, 2}, nil, 1500, 3},
		"lost once":       {nil, []int{1}, 1500, 2},
		"lost, tried for": {[]int{1}, []int{2}, 1500, 3},
	} {
		t.Run(name, func(t *testing.T) {
			trials := 0
			row := end(false, true, 1000, func(_ string, rate float64, _ time.Duration) *trial.PhaseResult {
				p := &trial.PhaseResult{Rate: rate, Actual: rate, Seconds: 2}
				if slices.Contains(tt.late, trials) {
					p.Latency.P99 = maxOverloadMS + 1
				}
				if slices.Contains(tt.lost, trials) {
					p.Lost = 1
				}
				trials++
				return p
			})
			if *row.Subscriber != tt.want || trials != tt.trials {
				t.Errorf("%v after %d trials, want %v after %d", *row.Subscriber, trials, tt.want, tt.trials)
			}
		})
	}
}
