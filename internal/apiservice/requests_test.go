package apiservice

import (
	"net/http"
	"strings"
	"testing"

	"github.com/runcast/runcast/internal/testenv"
)

// Requests are counted by the strategy that served them, those of auto by the
// one that was chosen; no word of a stranger becomes a label.
func TestRequestsAreCountedByStrategy(t *testing.T) {
	api, _ := services(t)
	none := "/workflows/none-" + testenv.Prefix(t) + "/stream"
	for _, path := range []string{"poll" + none, "redis" + none, "auto" + none, "pole" + none} {
		if status, text := call(t, http.MethodGet, api+"/v1/strategies/"+path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if status, text := call(t, http.MethodGet, api+"/v1/strategies", ""); status != http.StatusOK {
		t.Errorf("the list: %d %s", status, text)
	}
	_, metrics := call(t, http.MethodGet, api+"/metrics", "")
	const stream = `runcast_api_request_seconds_count{method="GET",route="/v1/strategies/{strategy}/workflows/{id}/stream",status="404",strategy=`
	for _, want := range []string{
		stream + `"poll"} 1`, stream + `"redis"} 2`, stream + `""} 1`,
		`runcast_api_request_seconds_count{method="GET",route="/v1/strategies",status="200",strategy=""} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, "pole") || strings.Contains(metrics, "none-") {
		t.Error("a stranger's word is in the metrics")
	}
}
