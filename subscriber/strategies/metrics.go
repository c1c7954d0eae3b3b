package strategies

import (
	"slices"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runcast/runcast/subscriber/follow"
)

// metricsPrefix sets the metrics apart from a subscriber's: those of its hub
// have the same names behind it, and the strategy as a label.
const metricsPrefix = "runcast_strategy_"

type metrics struct {
	assigned *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, ways map[string]*way) (*metrics, error) {
	m := &metrics{assigned: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: metricsPrefix + "assigned_total",
		Help: "Requests for auto, by the strategy that was chosen and the workflow type, which is other where it has no rule.",
	}, []string{"strategy", "workflow_type"})}
	for name := range ways {
		m.assigned.WithLabelValues(name, otherType)
	}
	return m, r.Register(m.assigned)
}

// otherType is in the place of types that have no rule of their own: a label
// has few values.
const otherType = "other"

func (m *metrics) assign(strategy string, types []string, workflowType string) {
	if !slices.Contains(types, workflowType) {
		workflowType = otherType
	}
	m.assigned.WithLabelValues(strategy, workflowType).Inc()
}

// registerUpstream registers what a way does to follow.
func registerUpstream(r prometheus.Registerer, strategy string, stats *follow.Stats) error {
	var list []prometheus.Collector
	labels := func(more prometheus.Labels) prometheus.Labels {
		all := prometheus.Labels{"strategy": strategy}
		for name, value := range more {
			all[name] = value
		}
		return all
	}
	count := func(name, help string, more prometheus.Labels, n *atomic.Int64) {
		list = append(list, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: metricsPrefix + name, Help: help, ConstLabels: labels(more),
		}, func() float64 { return float64(n.Load()) }))
	}
	list = append(list, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: metricsPrefix + "upstreams", Help: "Workflows that are followed, each once for all its viewers.", ConstLabels: labels(nil),
	}, func() float64 { return float64(stats.Upstreams.Load()) }))
	count("upstreams_begun_total", "Times that a workflow was begun to be followed, or again after a failure.", nil, &stats.Begun)
	count("upstream_failures_total", "Times that following a workflow failed; it is tried again.", nil, &stats.Failures)
	count("upstream_refused_total", "Workflows that could not be followed: there is none, or it has not the handlers.", nil, &stats.Refused)
	const events = "What came from workflows that are followed: new versions, known ones, and what is none."
	count("upstream_events_total", events, prometheus.Labels{"kind": "new"}, &stats.Events)
	count("upstream_events_total", events, prometheus.Labels{"kind": "known"}, &stats.Known)
	count("upstream_events_total", events, prometheus.Labels{"kind": "bad"}, &stats.Bad)
	count("versions_skipped_total", "Versions that were jumped over, since a newer one of the run came first.", nil, &stats.Skipped)
	const notices = "Times that a workflow could not be followed as it should: stale, or degraded to another strategy."
	count("notices_total", notices, prometheus.Labels{"kind": "stale"}, &stats.Stale)
	count("notices_total", notices, prometheus.Labels{"kind": "degraded"}, &stats.Degraded)
	for _, c := range list {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
