package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	// strategyHeader is that of the options.
	strategyHeader string

	requests *prometheus.HistogramVec
	started  *prometheus.CounterVec
	refused  *prometheus.CounterVec
	delivery *prometheus.CounterVec
	replies  *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, strategyHeader string) (*metrics, error) {
	m := &metrics{
		strategyHeader: strategyHeader,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "runcast_api_request_seconds",
			Help:    "How long requests took, a stream until its end; strategy is the one that served, empty for what none did.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method", "status", "strategy"}),
		started: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runcast_api_workflow_starts_total", Help: "Starts by workflow type and result: ok, taken or failed.",
		}, []string{"type", "result"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runcast_api_webhooks_refused_total", Help: "Requests not taken, by reason: no_token, signature or form (Twilio's), email_token.",
		}, []string{"reason"}),
		delivery: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runcast_api_delivery_statuses_total", Help: "Delivery statuses that Twilio reported.",
		}, []string{"status"}),
		replies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "runcast_api_replies_total",
			Help: "Replies that were waited for, by what became of them: answered, again (asked for once more after it was claimed), handed_over (the workflow sends it), crowded (so it does, since too many waited), lost (claimed, and the client had gone) or failed.",
		}, []string{"channel", "result"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.started, m.refused, m.delivery, m.replies} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		next.ServeHTTP(ww, r)
		// The pattern, not the path: an ID as a label would be a metric per run.
		route := chi.RouteContext(r.Context()).RoutePattern()
		if route == "" {
			route = "none"
		}
		// What the answer says, not the path: that may have any word, and for auto
		// it is the arm that counts.
		strategy := ""
		if m.strategyHeader != "" {
			strategy = ww.Header().Get(m.strategyHeader)
		}
		m.requests.WithLabelValues(route, method(r.Method), strconv.Itoa(max(ww.Status(), http.StatusOK)), strategy).
			Observe(time.Since(begin).Seconds())
	})
}

// method bounds the label: a client may send any word as its method.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}
