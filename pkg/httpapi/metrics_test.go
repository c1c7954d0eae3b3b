package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/runcast/runcast/pkg/httpapi"
)

// The strategy's header is a label where the answer has it, whatever the
// request says, and pages may read it.
func TestStrategyHeader(t *testing.T) {
	s := newAPI(t, struct{ httpapi.Temporal }{}, func(o *httpapi.Options) {
		o.StrategyHeader = "Way"
		o.Strategies = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("served") {
				w.Header().Set("Way", "poll")
			}
		})
	})
	served := call(t, s, http.MethodGet, "/v1/strategies/auto?served", "", "Origin", "https://page.example", "Way", "mine")
	if got := served.Header.Get("Access-Control-Expose-Headers"); !strings.HasSuffix(got, ", Way") {
		t.Errorf("pages may read %q", got)
	}
	call(t, s, http.MethodGet, "/v1/strategies/auto", "", "Way", "mine")
	text := call(t, s, http.MethodGet, "/metrics", "").text
	for _, want := range []string{`strategy="poll"} 1`, `strategy=""} 1`} {
		if !strings.Contains(text, `runcast_api_request_seconds_count{method="GET",route="/v1/strategies/*",status="200",`+want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(text, "mine") {
		t.Error("a word of the request is in the metrics")
	}
}
