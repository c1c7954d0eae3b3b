package subscriber

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/runcast/runcast/subscriber/hub"
)

// metrics are what /metrics shows. Most are counted by the hub and read when
// asked for.
type metrics struct {
	prefix string
	labels prometheus.Labels

	latency, eventLatency prometheus.Histogram

	refused *prometheus.CounterVec
}

// newMetrics returns metrics whose names begin with prefix, with labels on
// each.
func newMetrics(prefix string, labels prometheus.Labels) *metrics {
	return &metrics{
		prefix: prefix, labels: labels,
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        prefix + "write_latency_seconds",
			Help:        "Time from the arrival of a published event until it was written to all viewers whose sockets took it.",
			ConstLabels: labels,
			Buckets:     prometheus.ExponentialBuckets(0.0001, 2.5, 12),
		}),
		eventLatency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        prefix + "event_latency_seconds",
			Help:        "Time from an event's own time, by its writer's clock, until it was written to all viewers whose sockets took it.",
			ConstLabels: labels,
			Buckets:     prometheus.ExponentialBuckets(0.0005, 2.5, 12),
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name:        prefix + "refused_total",
			Help:        "Streams that were refused, by reason.",
			ConstLabels: labels,
		}, []string{"reason"}),
	}
}

func (m *metrics) register(r prometheus.Registerer, h *hub.Hub) error {
	hm := h.Metrics()
	list := []prometheus.Collector{m.latency, m.eventLatency, m.refused}
	count := func(name, help string, labels prometheus.Labels, f func() int64) {
		list = append(list, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: m.prefix + name, Help: help, ConstLabels: m.with(labels),
		}, func() float64 { return float64(f()) }))
	}
	gauge := func(name, help string, labels prometheus.Labels, f func() int) {
		list = append(list, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: m.prefix + name, Help: help, ConstLabels: m.with(labels),
		}, func() float64 { return float64(f()) }))
	}
	for _, transport := range []string{"sse", "ws"} {
		gauge("viewers", "Open streams.", prometheus.Labels{"transport": transport}, func() int { return h.Conns(transport) })
	}
	gauge("topics", "Topics that are followed, or were a moment ago.", nil, h.Topics)
	count("deliveries_total", "Frames handed to viewers' sockets.", nil, hm.Deliveries.Load)
	count("resumes_total", "Viewers that went on from their position without a gap.", nil, hm.Resumes.Load)
	count("reads_total", "Readings of streams and tags.", nil, hm.Reads.Load)
	count("read_failures_total", "Readings and subscriptions that failed; they are tried again.", nil, hm.ReadFailures.Load)
	count("bad_messages_total", "Published messages that were no event; the stream was read instead.", nil, hm.BadMessages.Load)
	count("inbox_dropped_total", "Times that a topic had more messages than it holds; the stream was read instead.", nil, hm.InboxDropped.Load)
	count("head_mismatches_total", "Topics that the comparison with the store found behind.", nil, hm.HeadMismatches.Load)
	count("socket_waits_total", "Times that a viewer's socket was full.", nil, hm.SocketFull.Load)
	for _, reason := range hub.Reasons {
		count("gaps_total", "Gap frames, by reason.", prometheus.Labels{"reason": string(reason)}, func() int64 { return hm.Gaps(reason) })
	}
	for _, reason := range hub.CloseReasons {
		count("closes_total", "Streams that ended, by reason; slow and dead are viewers that took nothing.",
			prometheus.Labels{"reason": string(reason)}, func() int64 { return hm.Closes(reason) })
	}
	for _, c := range list {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// with returns the labels of a metric that has some of its own.
func (m *metrics) with(own prometheus.Labels) prometheus.Labels {
	all := maps.Clone(m.labels)
	if all == nil {
		return own
	}
	maps.Copy(all, own)
	return all
}
