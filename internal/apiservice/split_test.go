package apiservice

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/runcast/runcast/pkg/strategy"
	"github.com/runcast/runcast/workflows"
)

// Half of the viewers follow a run by another strategy, each by the same on
// all nodes; the answer names the one that really serves it.
func TestStrategiesSplit(t *testing.T) {
	rules := workflows.ProgressiveName + ": {redis: 50, update: 50}"
	one := serveStrategies(t, rules, true)
	nodes := []*served{one, one.serve(t, Config{Strategy: rules})}
	id := one.start(t)
	one.count(t, id, 7)
	var viewers []*viewer
	arms := make(map[string]int)
	for i := range 20 {
		var names [2]string
		for n, s := range nodes {
			v := sse(t, t.Context(), "auto", s.stream("auto", id)+fmt.Sprintf("?viewer=viewer-%d", i))
			names[n] = v.header.Get("Runcast-Strategy")
			f := v.sees(`"current":7`)
			// Only positions of Redis have a hash of the history.
			if hashed := strings.Count(f.id, "-") == 2; hashed != (names[n] == strategy.Redis) {
				t.Errorf("by %s it is at %s", names[n], f.id)
			}
			viewers = append(viewers, v)
		}
		if names[0] != names[1] {
			t.Errorf("viewer %d: one node follows by %s, the other by %s", i, names[0], names[1])
		}
		arms[names[0]]++
	}
	if len(arms) != 2 || arms[strategy.Redis] == 0 || arms[strategy.Update] == 0 {
		t.Errorf("the arms are %v", arms)
	}
	for n, s := range nodes {
		_, text := s.text(t, "/metrics")
		for name, k := range arms {
			want := fmt.Sprintf(`runcast_strategy_assigned_total{strategy=%q,workflow_type=%q} %d`, name, workflows.ProgressiveName, k)
			if !strings.Contains(text, want+"\n") {
				t.Errorf("the metrics of node %d lack %s", n+1, want)
			}
		}
	}
	// A browser without a name gets one, which the other node knows.
	first := sse(t, t.Context(), "auto", nodes[0].stream("auto", id))
	cookies := (&http.Response{Header: first.header}).Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v", cookies)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, nodes[1].stream("auto", id), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(cookies[0])
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, want := res.Header.Get("Runcast-Strategy"), first.header.Get("Runcast-Strategy"); got != want || len(res.Cookies()) != 0 {
		t.Errorf("with its cookie it is followed by %q, not %q; cookies %v", got, want, res.Cookies())
	}
	one.count(t, id, 0)
	for _, v := range append(viewers, first) {
		v.ends(`"status":"completed"`)
	}
}
