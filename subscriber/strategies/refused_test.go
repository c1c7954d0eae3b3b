package strategies_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/subscriber/strategies"
)

// A node follows so many workflows by one strategy, and no more: whoever asks
// for another one is told to come back, at once.
func TestMostUpstreams(t *testing.T) {
	s := start(t, "", func(o *strategies.Options) { o.MaxUpstreams = 2 })
	for i := range 5 {
		s.poll.reach(fmt.Sprint("w", i), 1, progress.TypeProgress)
		s.update.reach(fmt.Sprint("w", i), 1, progress.TypeProgress)
	}
	for i := range 2 {
		expect(t, frames(t, s.get(t, fmt.Sprintf("/poll/workflows/w%d/stream", i))), "snapshot 1000-1")
	}
	began := time.Now()
	for i := 2; i < 5; i++ {
		res := s.get(t, fmt.Sprintf("/poll/workflows/w%d/stream", i))
		text := body(t, res)
		if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" ||
			res.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, "as many workflows") {
			t.Errorf("%s %v: %s", res.Status, res.Header, text)
		}
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v to refuse", took)
	}
	// One that is followed already costs nothing more; others are not concerned.
	expect(t, frames(t, s.get(t, "/poll/workflows/w0/stream")), "snapshot 1000-1")
	expect(t, frames(t, s.get(t, "/update/workflows/w4/stream")), "snapshot 1000-1")
	expect(t, frames(t, s.get(t, "/redis/workflows/w4/stream")), "snapshot")
	for i := 2; i < 5; i++ {
		if begun, _ := s.poll.counts(fmt.Sprint("w", i)); begun != 0 {
			t.Errorf("w%d was followed %d times", i, begun)
		}
	}
	const want = `runcast_strategy_refused_total{reason="upstreams",strategy="poll"} 3`
	if text := body(t, must(s.Client().Get(s.URL+"/metrics"))); !strings.Contains(text, want) {
		t.Errorf("the metrics lack %s", want)
	}
}

// One that needs what is not there says what.
func TestMissing(t *testing.T) {
	s := start(t, "", func(o *strategies.Options) { o.Missing = map[string]string{"push": "there is no key; set KEY"} })
	for name, want := range map[string]string{"push": "there is no key; set KEY. Or use poll", "pull": "There is no strategy"} {
		res := s.get(t, "/"+name+"/workflows/w/stream")
		if text := body(t, res); res.StatusCode != http.StatusNotFound || !strings.Contains(text, want) || !strings.Contains(text, `"strategies":["poll"`) {
			t.Errorf("%s: %s", res.Status, text)
		}
	}
}
