package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is what counts of Grafana's form.
type dashboard struct {
	Panels []struct {
		ID                 int
		Title, Description string
		FieldConfig        struct {
			Defaults struct{ Unit string }
		}
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct {
			Name, Type, Definition string
		}
	}
}

var (
	legendLabel = regexp.MustCompile(`{{(\w+)}}`)
	labelValues = regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
)

// checkDashboards holds every query that this repository has for Grafana and in
// its documentation against what the programs show, once runs have been
// followed in each way.
func checkDashboards(t *testing.T, dev *devServer) {
	// A stream that is refused is counted from its first time on.
	res, err := http.Get(dev.api + "/v1/strategies/poll/workflows/nope/stream")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown workflow: %s", res.Status)
	}
	x := make(exposed)
	for _, addr := range []string{dev.apiAddr, dev.workerAddr} {
		x.expose(t, text(t, "http://"+addr+"/metrics"))
	}
	files, err := filepath.Glob(filepath.Join(repository, "deployments", "grafana", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there is no dashboard: %v", err)
	}
	for _, file := range files {
		x.checkDashboard(t, file)
	}
	text, err := os.ReadFile(filepath.Join(repository, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	queries := 0
	for line := range strings.Lines(string(text)) {
		if query, block := strings.CutPrefix(line, "    "); block && strings.Contains(query, "rate(") {
			queries++
			if _, wrong := x.query(query); len(wrong) > 0 {
				t.Errorf("%s: %q", query, wrong)
			}
		}
	}
	if queries == 0 {
		t.Error("no query was found in the documentation")
	}
}

// checkDashboard checks each panel: its queries are right, their results and
// legends tell the strategies apart, and no panel hides another.
func (x exposed) checkDashboard(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q lacks something, or its ID is another's", p.ID, p.Title)
		}
		ids[p.ID] = true
		for i := range p.GridPos.W * p.GridPos.H {
			at := [2]int{p.GridPos.X + i%p.GridPos.W, p.GridPos.Y + i/p.GridPos.W}
			if other := taken[at]; other != "" && other != p.Title {
				t.Errorf("%q and %q are in one place", p.Title, other)
				break
			}
			taken[at] = p.Title
		}
		for _, target := range p.Targets {
			result, wrong := x.query(target.Expr)
			if len(wrong) > 0 {
				t.Errorf("%s: %s: %q", p.Title, target.Expr, wrong)
				continue
			}
			var shown []string
			for _, m := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				shown = append(shown, m[1])
			}
			slices.Sort(shown)
			if !slices.Contains(result, "strategy") || !slices.Equal(shown, result) || !strings.Contains(target.Expr, `strategy=~"$strategy`) {
				t.Errorf("%s: %s has the labels %q, and %q shows %q", p.Title, target.Expr, result, target.LegendFormat, shown)
			}
		}
	}
	if len(ids) < 8 {
		t.Errorf("%s has %d panels", file, len(ids))
	}
	variables := 0
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		variables++
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil || x[m[1]] == nil || x[m[1]].values[m[2]] == nil {
			t.Errorf("the variable %s asks for %q, which there is not", v.Name, v.Definition)
		}
	}
	if variables == 0 {
		t.Errorf("%s lets nobody choose a strategy", file)
	}
}

// Queries are read as the Prometheus reads them that is deployed: v3.5.0 is
// the module v0.305.0.
func TestPromQLIsOfTheDeployedPrometheus(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	image := composeProject(t, "metrics").Services["prometheus"].Image
	var major, minor, patch int
	if _, err := fmt.Sscanf(image, "prom/prometheus:v%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("%s: %v", image, err)
	}
	want := fmt.Sprintf("github.com/prometheus/prometheus v0.%d%02d.%d\n", major, minor, patch)
	if !strings.Contains(string(text), want) {
		t.Errorf("%s is deployed, and go.mod lacks %s", image, want)
	}
}
