package main

import (
	"strings"
	"testing"

	"github.com/runcast/runcast/bench/internal/trial"
	"github.com/runcast/runcast/bench/internal/viewers"
)

const exposed = `# HELP runcast_subscriber_closes_total Streams that ended, by reason.
# TYPE runcast_subscriber_closes_total counter
runcast_subscriber_closes_total{reason="client"} 1000
runcast_subscriber_closes_total{reason="slow"} 2
runcast_subscriber_closes_total{reason="dead"} 1
runcast_subscriber_gaps_total{reason="slow"} 4
runcast_subscriber_reads_total 5
runcast_subscriber_write_latency_seconds_bucket{le="0.1"} 7
go_goroutines 8
`

func TestCounters(t *testing.T) {
	found, err := parseCounters(strings.NewReader(exposed))
	if err != nil {
		t.Fatal(err)
	}
	if total(found, "closes_total", `reason="client"`) != 3 || total(found, "reads_total", "") != 5 || total(found, "reads", "") != 0 || len(found) != 5 {
		t.Errorf("%v", found)
	}
	if _, err := parseCounters(strings.NewReader("go_goroutines 8\n")); err == nil {
		t.Error("another server's figures are taken")
	}
}

// A trial in which the subscriber and its viewers do not say the same is none.
func TestDisagreement(t *testing.T) {
	whole := func() *trial.Result {
		res := &trial.Result{Phases: make([]trial.PhaseResult, 2), Server: map[string]float64{`closes_total{reason="client"}`: 1000, `closes_total{reason="slow"}`: 3, `gaps_total{reason="slow"}`: 4}}
		res.Phases[0].Closed, res.Phases[1].Closed = 1, 1
		res.Phases[1].Gaps = 3
		res.Again = &trial.Attach{Seen: &viewers.Counts{Closed: 1, Gaps: 1}}
		return res
	}
	for name, tt := range map[string]struct {
		change func(*trial.Result)
		c      trial.Config
		want   string
	}{
		"the same":                {func(*trial.Result) {}, trial.Config{}, ""},
		"closed, but nobody saw":  {func(r *trial.Result) { r.Phases[0].Closed = 0 }, trial.Config{}, "closed 3"},
		"gaps that nobody saw":    {func(r *trial.Result) { r.Again.Seen.Gaps = 0 }, trial.Config{}, "4 gaps"},
		"behind":                  {func(r *trial.Result) { r.Server["head_mismatches_total"] = 1 }, trial.Config{}, "behind"},
		"dropped":                 {func(r *trial.Result) { r.Server["inbox_dropped_total"] = 1 }, trial.Config{}, "more messages"},
		"dropped in an overload":  {func(r *trial.Result) { r.Server["inbox_dropped_total"] = 1 }, trial.Config{Phases: []trial.Phase{{Rate: 2000}}}, ""},
		"stuck ones are closed":   {func(r *trial.Result) { r.Phases[0].Closed = 0 }, trial.Config{Stuck: 1}, ""},
		"more than the stuck are": {func(r *trial.Result) { r.Phases[0].Closed, r.Phases[1].Closed = 0, 0 }, trial.Config{Stuck: 1}, "took nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			res := whole()
			tt.change(res)
			err := disagreement(res, tt.c)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
