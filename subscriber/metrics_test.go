package subscriber_test

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
)

// metric reads one value from /metrics. A name with labels is spelled as it
// stands there.
func metric(t *testing.T, n *node, name string) float64 {
	t.Helper()
	res, cancel := get(t, n.url+"/metrics")
	defer cancel()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "runcast_subscriber_"+name+" "); ok {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return value
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// Latencies are counted once for each event, however many viewers it has.
func TestLatencyIsMeasured(t *testing.T) {
	n := start(t)
	viewers := []client{n.sse(t, "/v1/workflows/w/stream"), n.ws(t, "/v1/workflows/w/ws"), n.sse(t, "/v1/stream?workflow=w")}
	for _, c := range viewers {
		expect(t, c, "snapshot")
	}
	r := newRun(t, n.store, "w", "run")
	for i, age := range []time.Duration{time.Hour, -time.Hour} { // a clock may be ahead
		r.addWith(progress.TypeLog, func(e *progress.Event) { e.Time = time.Now().Add(-age) })
		for _, c := range viewers {
			expect(t, c, "update")
		}
		want := float64(i + 1)
		for _, name := range []string{"write_latency_seconds", "event_latency_seconds"} {
			eventually(t, name+" counted", func() bool { return metric(t, n, name+"_count") == want })
		}
	}
	if sum := metric(t, n, "write_latency_seconds_sum"); sum <= 0 || sum > 60 {
		t.Errorf("from the arrival it took %v s", sum)
	}
	if sum := metric(t, n, "event_latency_seconds_sum"); sum < 3600 || sum > 3660 {
		t.Errorf("from the events' own times it took %v s, want the hour of the first", sum)
	}
}

// A viewer that goes on without a gap is a resume; one that begins is not.
func TestResumesAreCounted(t *testing.T) {
	each(t, func(t *testing.T, open func(*node, string, string) client) {
		n := start(t)
		r := newRun(t, n.store, "w", "run")
		first := r.log("1")
		r.log("2")
		expect(t, open(n, "w", ""), "snapshot")
		c := open(n, "w", "?after=nonsense")
		expect(t, c, "gap")
		expect(t, c, "snapshot")
		if got := metric(t, n, "resumes_total"); got != 0 {
			t.Errorf("%v resumes, and nobody had a position", got)
		}
		expect(t, open(n, "w", "?after="+first.String()), "update")
		eventually(t, "counted", func() bool { return metric(t, n, "resumes_total") == 1 })
	})
}
