package main

import (
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
