package statsmetrics_test

import (
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/runcast/runcast/internal/statsmetrics"
)

func TestCollector(t *testing.T) {
	type stats struct {
		Written, IndexErrors int64
		Name                 string
	}
	now := stats{Written: 1}
	registry := prometheus.NewRegistry()
	registry.MustRegister(statsmetrics.Collector("x", func() stats { return now }))
	now = stats{Written: 7, IndexErrors: 2, Name: "not a count"}
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	want := `# HELP x_index_errors_total Count of index errors since the start.
# TYPE x_index_errors_total counter
x_index_errors_total 2
# HELP x_written_total Count of written since the start.
# TYPE x_written_total counter
x_written_total 7
`
	if got := rec.Body.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLabeled(t *testing.T) {
	type stats struct{ Taken int64 }
	registry := prometheus.NewRegistry()
	registry.MustRegister(statsmetrics.Labeled("x", "strategy", func() map[string]stats {
		return map[string]stats{"push": {3}, "signal": {}}
	}))
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	want := `# HELP x_taken_total Count of taken since the start.
# TYPE x_taken_total counter
x_taken_total{strategy="push"} 3
x_taken_total{strategy="signal"} 0
`
	if got := rec.Body.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
