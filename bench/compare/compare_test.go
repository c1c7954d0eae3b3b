package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/pkg/strategy"
)

// measured returns an arm of ten seconds as a strategy without fault has it.
func measured(name string, viewers int, shared bool, callsPerMinute float64) armResult {
	minutes := float64(max(viewers, 1)) / 6
	calls := int64(callsPerMinute * minutes)
	r := &arm.Result{
		Strategy: name, Shared: shared, Runs: 1, Viewers: viewers, Changes: 50, Seconds: 10, WatchMinutes: minutes,
		Latency: latency.Summary{Count: int64(50 * viewers), P50: 5, P99: 20}, Seen: int64(50 * viewers), Ended: viewers,
		History: arm.History{Events: 256, Tasks: 51, Starts: 1, Timers: 50},
		Server:  frontend.Server{Calls: frontend.Calls{"StartWorkflowExecution": 1}, Actions: frontend.Calls{"grpc_StartWorkflowExecution": 1, "command_StartTimer": 50}},
	}
	r.OwnCalls.Made = frontend.Calls{"StartWorkflowExecution": 1}
	if calls > 0 {
		r.Calls = frontend.Counts{Made: frontend.Calls{"QueryWorkflow": calls}, Done: frontend.Calls{"QueryWorkflow": calls}}
		r.Server.Calls["QueryWorkflow"], r.Server.Actions["grpc_QueryWorkflow"] = calls, calls
	}
	return armResult{Result: r}
}

func aComparison() *comparison {
	c := &comparison{Run: *report.New(false)}
	c.Run.CPU, c.Kernel, c.Go = "Some CPU", "6.1", "go1.26"
	c.Arms = append(c.Arms, measured(arm.None, 0, false, 0))
	for _, n := range []int{1, 10, 100, 1000} {
		c.Arms = append(c.Arms, measured(strategy.Poll, n, true, 240/float64(n)), measured(strategy.Redis, n, true, 0))
		if n > 1 {
			c.Arms = append(c.Arms, measured(strategy.Poll, n, false, 240), measured(strategy.Redis, n, false, 0))
		}
	}
	last := c.find(strategy.Poll, 1000, false)
	last.Latency.P99 = 4000
	last.Broken = judge(last.Result, false)
	return c
}

func TestClaims(t *testing.T) {
	if c := aComparison(); c.failed() != 0 {
		t.Errorf("%+v", c.claims())
	}
	for name, change := range map[string]func(c *comparison){
		"a call for a viewer of redis": func(c *comparison) { c.find(strategy.Redis, 100, true).Calls.Made = frontend.Calls{"QueryWorkflow": 1} },
		"another rate of poll":         func(c *comparison) { c.find(strategy.Poll, 100, false).WatchMinutes *= 2 },
		"another rate of poll, shared": func(c *comparison) { c.find(strategy.Poll, 100, true).WatchMinutes /= 2 },
		"calls that nobody counted":    func(c *comparison) { c.find(strategy.Poll, 10, true).Server.Calls["SignalWorkflowExecution"] = 30 },
		"actions that nobody explains": func(c *comparison) {
			c.find(strategy.Poll, 10, true).Server.Actions["grpc_SignalWorkflowExecution"] = 30
		},
		"an arm that came too late": func(c *comparison) { c.find(strategy.Poll, 10, false).Skipped = noTime },
		"calls that never came":     func(c *comparison) { c.find(strategy.Poll, 10, false).Server.Calls["QueryWorkflow"] = 1 },
	} {
		c := aComparison()
		change(c)
		if c.failed() == 0 {
			t.Errorf("%s goes unnoticed", name)
		}
	}
}

// What differs in an arm that broke is told, and nothing is claimed of it.
func TestClaimsOfABrokenArm(t *testing.T) {
	c := aComparison()
	a := c.find(strategy.Poll, 1000, false)
	a.Server.Calls["QueryWorkflow"], a.Server.Actions["grpc_QueryWorkflow"] = 1, 1
	if c.failed() != 0 {
		t.Errorf("%+v", c.claims())
	}
	told := 0
	for _, cl := range c.claims() {
		if strings.Contains(cl.found, "not judged, since they broke: poll with 1000 viewers, not shared") {
			told++
		}
	}
	if told != 2 {
		t.Errorf("it is told %d times in %+v", told, c.claims())
	}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*arm.Result)
		want   string
	}{
		{"nothing", func(*arm.Result) {}, ""},
		{"one of a hundred viewers", func(r *arm.Result) { r.Errors, r.Ended = map[string]int{"x": 1}, 99 }, ""},
		{"errors", func(r *arm.Result) { r.Errors, r.Ended = map[string]int{"x": 2}, 98 }, "2 of 100 viewers got an error: x"},
		{"degraded", func(r *arm.Result) { r.Notices = map[string]int{strategy.Degraded: 40} }, "40 of 100 viewers went on by polling"},
		{"stale", func(r *arm.Result) { r.Notices = map[string]int{strategy.Stale: 40} }, "nobody answers"},
		{"refused", func(r *arm.Result) { r.Calls.Refused = frontend.Calls{"QueryWorkflow": 1000} }, "25 % of the calls were refused"},
		{"no end", func(r *arm.Result) { r.Ended = 50 }, "50 of 100 viewers had not seen the end"},
		{"two ends", func(r *arm.Result) { r.Doubled, r.Ended = 1, 99 }, "1 of 100 viewers saw the end more than once"},
		{"late", func(r *arm.Result) { r.Latency.P99 = 2501 }, "p99 2.5 s"},
		{"late as it polls", func(r *arm.Result) { r.Latency.P99 = 2499 }, ""},
		{"late as it looks now and then", func(r *arm.Result) { r.Strategy, r.Latency.P99 = strategy.Adaptive, 6999 }, ""},
		{"late with nothing to wait for", func(r *arm.Result) { r.Strategy, r.Latency.P99 = strategy.Redis, 2001 }, "p99 2.0 s"},
		{"never", func(r *arm.Result) { r.Late = 100 }, "100 of 5000 changes never came"},
		{"gaps", func(r *arm.Result) { r.Gaps = 2 }, "told of a gap"},
	} {
		a := measured(strategy.Poll, 100, false, 240)
		tt.change(a.Result)
		if got := judge(a.Result, false); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	a := measured(strategy.Poll, 100, false, 240)
	a.Latency.P99 = 5000
	if got := judge(a.Result, true); got != "" {
		t.Errorf("a quick run judges times: %q", got)
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != 1+len(strategy.Names()) {
		t.Errorf("%v %v", all, err)
	}
	if some, err := choose("redis,poll,redis"); err != nil || !slices.Equal(some, []string{arm.None, "redis", "poll"}) {
		t.Errorf("%v %v", some, err)
	}
	if _, err := choose("poll,guess"); err == nil || !strings.Contains(err.Error(), "guess") {
		t.Errorf("a strategy that is none: %v", err)
	}
}

func TestTables(t *testing.T) {
	c := aComparison()
	c.Arms = append(c.Arms, armResult{Result: &arm.Result{Strategy: strategy.Update, Runs: 1, Viewers: 100}, Skipped: "broke with fewer viewers"})
	c.find(strategy.Poll, 10, true).FirstTry = "p99 3.0 s"
	var text strings.Builder
	if err := c.table(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"(the second try; in the first: p99 3.0 s)", "BROKEN: p99 4.0 s", "not tried: broke with fewer viewers", "QueryWorkflow 4000", "1000 viewers, not shared"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &text)
		}
	}
	summary := c.summary()
	for _, want := range []string{
		"| Current polling | `poll` | shared: 2.40<br>not shared: 240 |", "not shared: 1,000 (p99 4.0 s)", "shared: more than 1,000",
		"| Event sourcing | `redis` | shared: 0<br>not shared: 0 |", "| Adaptive polling | `adaptive` | not measured |",
	} {
		if !strings.Contains(summary, want) {
			t.Errorf("the summary lacks %q:\n%s", want, summary)
		}
	}
	if n := strings.Count(summary, "\n"); n != 8 {
		t.Errorf("the summary has %d lines", n)
	}
	if md := c.markdown(); !strings.Contains(md, "**broken:** p99 4.0 s") || !strings.Contains(md, "Some CPU, Linux 6.1") || !strings.Contains(md, "| poll | 100 viewers, not shared | QueryWorkflow 4000 | none |") || strings.Contains(md, c.ID) {
		t.Errorf("%s", md)
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	text, err := aComparison().plot()
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"NaN", "Inf", "%!"} {
		if bytes.Contains(text, []byte(bad)) {
			t.Errorf("the plot has %q", bad)
		}
	}
	if n := bytes.Count(text, []byte(`<polyline class="line poll"`)); n != 4 {
		t.Errorf("%d lines of poll in four panels", n)
	}
	if !bytes.Contains(text, []byte("prefers-color-scheme: dark")) {
		t.Error("the plot is for light only")
	}
}

func TestShownResultsGoIntoTheDocs(t *testing.T) {
	dir, docs := t.TempDir(), t.TempDir()
	page := "before\n<!-- begin summary -->\nold\n<!-- end summary -->\nbetween\n<!-- begin figures -->\n<!-- end figures -->\nafter\n"
	if err := os.WriteFile(filepath.Join(docs, "strategies.md"), []byte(page), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := aComparison().write(settings{out: dir}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-show", filepath.Join(dir, "compare.json"), "-out", dir, "-docs", docs}, &out, &out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(docs, "strategies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n", "| Current polling |", "between\n", "| poll | 100 viewers, not shared |", "after\n"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%q is not there:\n%s", want, text)
		}
	}
	if bytes.Contains(text, []byte("old")) {
		t.Error("what stood there stands there still")
	}
	if _, err := os.Stat(filepath.Join(docs, "images", "strategies.svg")); err != nil {
		t.Error(err)
	}
	if _, err := replace([]byte("no marks"), "summary", "x"); err == nil {
		t.Error("a page without marks is changed")
	}
}
