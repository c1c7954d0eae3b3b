package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/report"
)

// column is one of the table: a heading, and what stands below it.
type column struct {
	head string
	cell func(c *comparison, a *armResult) string
}

// columns are the table's, behind strategy and viewers. What the runs cost by
// themselves is left out of what is told for each change.
var columns = []column{
	{"calls", func(_ *comparison, a *armResult) string { return report.Number(float64(a.Calls.Made.Total())) }},
	{"per viewer and minute", func(_ *comparison, a *armResult) string { return watched(a, report.Number(a.PerViewerMinute())) }},
	{"refused", func(_ *comparison, a *armResult) string { return report.Number(float64(a.Calls.Refused.Total())) }},
	{"worker's calls", func(_ *comparison, a *armResult) string { return report.Number(float64(a.WorkerCalls.Made.Total())) }},
	{"history events per change", func(c *comparison, a *armResult) string { return c.added(a, events) }},
	{"workflow tasks per change", func(c *comparison, a *armResult) string { return c.added(a, tasks) }},
	{"query tasks per change", func(_ *comparison, a *armResult) string {
		return report.Number(a.PerChange(a.WorkerCalls.Made["RespondQueryTaskCompleted"]))
	}},
	{"actions per change", func(_ *comparison, a *armResult) string { return report.Number(a.PerChange(a.Actions())) }},
	{"p50 ms", func(_ *comparison, a *armResult) string { return timed(a, report.Number(a.Latency.P50)) }},
	{"p99 ms", func(_ *comparison, a *armResult) string { return timed(a, report.Number(a.Latency.P99)) }},
	{"missed", func(_ *comparison, a *armResult) string { return timed(a, missed(a)) }},
	{"Temporal's CPU", func(_ *comparison, a *armResult) string { return cores(a.CPU.Temporal, a) }},
	{"worker's", func(_ *comparison, a *armResult) string { return cores(a.CPU.Worker, a) }},
	{"Redis'", func(_ *comparison, a *armResult) string { return cores(a.CPU.Redis, a) }},
	{"ours", func(_ *comparison, a *armResult) string { return cores(a.CPU.Viewers, a) }},
}

func events(r *arm.Result) int64 { return r.History.Events }
func tasks(r *arm.Result) int64  { return r.History.Tasks }

// added returns what following adds to a count for each change; of runs that
// nobody follows, the count. Nothing is known where runs were terminated.
func (c *comparison) added(a *armResult, of func(*arm.Result) int64) string {
	if a.Open > 0 {
		return ""
	}
	n := a.PerChange(of(a.Result))
	if a.Strategy != arm.None {
		alone := c.alone(a)
		if alone == nil || alone.Open > 0 {
			return ""
		}
		n = max(n-alone.PerChange(of(alone)), 0)
	}
	return report.Number(n)
}

// missed is the share of changes that viewers did not see as themselves.
func missed(a *armResult) string {
	return fmt.Sprintf("%.0f %%", 100*float64(a.Missed+a.Late)/float64(max(a.Expected(), 1)))
}

// watched leaves a cell empty where nobody watches.
func watched(a *armResult, text string) string {
	if a.Viewers == 0 {
		return ""
	}
	return text
}

// timed leaves a cell empty where no times are known: nobody watches, or no
// run has ended.
func timed(a *armResult, text string) string {
	if a.Latency.Count == 0 {
		return ""
	}
	return text
}

// cores is CPU time as a share of one core.
func cores(seconds float64, a *armResult) string {
	return fmt.Sprintf("%.0f %%", 100*seconds/max(a.Seconds, 1e-9))
}

// lines are the table's cells, the heading first.
func (c *comparison) lines() [][]string {
	head := []string{"strategy", "viewers"}
	for _, col := range columns {
		head = append(head, col.head)
	}
	lines := [][]string{append(head, "")}
	for i := range c.Arms {
		a := &c.Arms[i]
		line := []string{a.Strategy, a.String()}
		for _, col := range columns {
			text := ""
			if a.Skipped == "" {
				text = col.cell(c, a)
			}
			line = append(line, text)
		}
		note := ""
		switch {
		case a.Skipped != "":
			note = "not tried: " + a.Skipped
		case a.Broken != "":
			note = "BROKEN: " + a.Broken
		}
		if a.FirstTry != "" {
			note = strings.TrimSpace(note + " (the second try; in the first: " + a.FirstTry + ")")
		}
		lines = append(lines, append(line, note))
	}
	return lines
}

// table prints the comparison for people at a terminal.
func (c *comparison) table(w io.Writer) error {
	var b strings.Builder
	form := "full"
	if c.Quick {
		form = "quick: a smoke test, times are not judged"
	}
	fmt.Fprintf(&b, "run %s, %s (%s)\n%s, Linux %s, %s; worker, Redis and viewers on core %d, Temporal on any; load average %.2f before; took %.0f s\n\n",
		c.ID, c.Began.Format("2006-01-02 15:04:05 MST"), form, c.CPU, c.Kernel, c.Go, c.Cores.Load, c.Load1, c.Seconds)
	if why := c.Disturbed(); why != "" {
		fmt.Fprintf(&b, "DISTURBED: %s. Something else uses this machine; do not trust times.\n\n", why)
	}
	lines := c.lines()
	widths := make([]int, len(lines[0]))
	// Headings are set as words below each other, or the table would be as
	// wide as they are.
	heads, tallest := make([][]string, len(lines[0])), 0
	for i, text := range lines[0] {
		heads[i] = strings.Fields(text)
		tallest = max(tallest, len(heads[i]))
		for _, word := range heads[i] {
			widths[i] = max(widths[i], len([]rune(word)))
		}
	}
	for _, line := range lines[1:] {
		for i, text := range line {
			widths[i] = max(widths[i], len([]rune(text)))
		}
	}
	row := func(cell func(int) string) {
		for i := range widths {
			text := cell(i)
			pad := strings.Repeat(" ", widths[i]-len([]rune(text)))
			switch {
			case i == len(widths)-1:
				b.WriteString(text)
			case i >= 2:
				b.WriteString(pad + text + "  ")
			default:
				b.WriteString(text + pad + "  ")
			}
		}
		b.WriteString("\n")
	}
	for n := range tallest {
		row(func(i int) string {
			if k := n - (tallest - len(heads[i])); k >= 0 {
				return heads[i][k]
			}
			return ""
		})
	}
	for _, line := range lines[1:] {
		row(func(i int) string { return line[i] })
	}
	b.WriteString("\nCalls of the viewers to Temporal, by method:\n")
	for i := range c.Arms {
		if a := &c.Arms[i]; a.Skipped == "" && a.Viewers > 0 {
			fmt.Fprintf(&b, "  %-9s %-30s %s\n", a.Strategy, a.String(), methods(a.Calls.Made))
		}
	}
	b.WriteString("\n")
	for _, cl := range c.claims() {
		fmt.Fprintf(&b, "%-8s %s: %s\n", cl.verdict(), cl.what, cl.found)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// methods lists calls by method.
func methods(calls frontend.Calls) string {
	if len(calls) == 0 {
		return "none"
	}
	var parts []string
	for _, m := range sortedKeys(calls) {
		parts = append(parts, fmt.Sprintf("%s %d", m, calls[m]))
	}
	return strings.Join(parts, ", ")
}
