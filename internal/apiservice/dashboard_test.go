package apiservice

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/runcast/runcast/workflows"
)

// dashboard is what counts of Grafana's form.
type dashboard struct {
	Panels []struct {
		ID          int
		Title       string
		FieldConfig struct {
			Defaults struct{ Unit string }
		}
		Targets []struct{ Expr, LegendFormat string }
	}
}

var (
	metricName = regexp.MustCompile(`runcast_[a-z_]+`)
	groupedBy  = regexp.MustCompile(`sum by \(([a-z, ]+)\)`)
)

// The dashboard shows what a node has that serves both arms of a split, and
// what a worker has.
func TestDashboardShowsWhatThereIs(t *testing.T) {
	text, err := os.ReadFile("../../deployments/grafana/strategies.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	s := serveStrategies(t, workflows.ProgressiveName+": {redis: 50, update: 50}", true)
	for _, name := range s.names {
		id := s.start(t)
		s.count(t, id, 7)
		s.awaitWritten(t, id)
		res := s.get(t, "/v1/strategies/"+name+"/workflows/"+id+"/stream")
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: answered %s", name, res.Status)
		}
		reads(t, bufio.NewScanner(res.Body), `"current":7`)
	}
	if code, _ := s.text(t, "/v1/strategies/update/workflows/nope/stream"); code != http.StatusNotFound {
		t.Errorf("an unknown workflow: answered %d", code)
	}
	_, exposed := s.text(t, "/metrics")
	_, worker := services(t)
	_, deliveries := call(t, http.MethodGet, worker+"/metrics", "")
	exposed += deliveries
	ids := make(map[int]bool)
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q lacks something, or its ID is another's", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			by := groupedBy.FindStringSubmatch(target.Expr)
			if by == nil || !strings.Contains(target.Expr, `strategy=~"$strategy`) || !strings.Contains(target.LegendFormat, "{{strategy}}") {
				t.Errorf("%s: the arms are not told apart in %s", p.Title, target.Expr)
				continue
			}
			for _, metric := range metricName.FindAllString(target.Expr, -1) {
				line := firstLine(exposed, metric+"{")
				for label := range strings.SplitSeq(by[1], ", ") {
					if label != "le" && !strings.Contains(line, label+`="`) {
						t.Errorf("%s: no %s with the label %s: %q", p.Title, metric, label, line)
					}
				}
			}
		}
	}
	if len(ids) < 8 {
		t.Errorf("there are %d panels", len(ids))
	}
}

// firstLine returns the first line with the prefix, "" if there is none.
func firstLine(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}
