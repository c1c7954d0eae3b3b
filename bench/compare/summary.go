package main

import (
	"fmt"
	"strings"

	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/pkg/strategy"
)

// approach is one row of the table of six, in the order and with the names
// that it has always had.
type approach struct{ name, strategy, infrastructure string }

var approaches = []approach{
	{"Current polling", strategy.Poll, "none"},
	{"Workflow-initiated", strategy.Push, "an endpoint that Temporal's worker reaches; Redis to keep what endpoints of others do not take"},
	{"Update long polling", strategy.Update, "none"},
	{"Signal-query hybrid", strategy.Signal, "an endpoint that Temporal's worker reaches"},
	{"Event sourcing", strategy.Redis, "Redis"},
	{"Adaptive polling", strategy.Adaptive, "none"},
}

// summary is the table of six as Markdown.
func (c *comparison) summary() string {
	var b strings.Builder
	b.WriteString("| approach | strategy | calls to Temporal, per viewer and minute | p50 / p99, changes missed | per change: history events, workflow tasks, actions | viewers of one run until it breaks | needs beside Temporal |\n" +
		"|---|---|---|---|---|---|---|\n")
	for _, ap := range approaches {
		if !c.measured(ap.strategy) {
			fmt.Fprintf(&b, "| %s | `%s` | not measured | | | | %s |\n", ap.name, ap.strategy, ap.infrastructure)
			continue
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s |\n", ap.name, ap.strategy,
			c.both(ap.strategy, func(a *armResult) string { return report.Number(a.PerViewerMinute()) }),
			c.both(ap.strategy, func(a *armResult) string {
				return fmt.Sprintf("%s / %s ms, %s", report.Number(a.Latency.P50), report.Number(a.Latency.P99), missed(a))
			}),
			c.both(ap.strategy, func(a *armResult) string {
				return fmt.Sprintf("%s, %s, %s", c.added(a, events), c.added(a, tasks), report.Number(a.PerChange(a.Actions())))
			}),
			c.breaking(ap.strategy), ap.infrastructure)
	}
	return b.String()
}

// both tells something of the arms with as many viewers as claims are about,
// or the most that a strategy bears.
func (c *comparison) both(name string, text func(*armResult) string) string {
	var parts []string
	for _, shared := range []bool{true, false} {
		what := "shared"
		if !shared {
			what = "not shared"
		}
		best := c.typical(name, shared)
		if best == nil {
			continue
		}
		if best.Viewers != claimViewers && !c.Quick {
			what += fmt.Sprintf(", %s", plural(best.Viewers, "viewer"))
		}
		if best.Broken != "" {
			what += ", broken"
		}
		parts = append(parts, what+": "+text(best))
	}
	return strings.Join(parts, "<br>")
}

// typical returns the arm with as many viewers of one run as claims are about,
// or the most that a strategy bears; nil: there is none.
func (c *comparison) typical(name string, shared bool) (best *armResult) {
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.Strategy == name && a.Runs == 1 && a.Shared == shared && a.Skipped == "" && a.Viewers <= claimViewers &&
			(best == nil || a.Broken == "" && a.Viewers > best.Viewers) {
			best = a
		}
	}
	return best
}

// breaking says with how many viewers a strategy breaks, and how.
func (c *comparison) breaking(name string) string {
	var parts []string
	for _, shared := range []bool{true, false} {
		what := "shared"
		if !shared {
			what = "not shared"
		}
		switch n, how := c.breaks(name, shared); {
		case n > 0:
			parts = append(parts, fmt.Sprintf("%s: %s (%s)", what, report.Number(float64(n)), escape(first(how))))
		default:
			parts = append(parts, fmt.Sprintf("%s: more than %s", what, report.Number(float64(c.most(name, shared)))))
		}
	}
	if a := c.many(name); a != nil && a.Broken != "" {
		parts = append(parts, fmt.Sprintf("%s: %s", a.String(), escape(first(a.Broken))))
	}
	return strings.Join(parts, "<br>")
}

// first is the first reason of several.
func first(reasons string) string {
	reason, _, _ := strings.Cut(reasons, "; ")
	return reason
}

var escape = strings.NewReplacer("|", `\|`, "\n", " ").Replace

// withoutPolls leaves out how often a worker asks for tasks, which it does
// whoever follows.
func withoutPolls(calls frontend.Calls) frontend.Calls {
	rest := make(frontend.Calls)
	for method, n := range calls {
		if !strings.HasPrefix(method, "Poll") && method != "RecordWorkerHeartbeat" {
			rest[method] = n
		}
	}
	return rest
}

// markdown is the whole table, the calls by method, what was found of the claims, and the machine.
func (c *comparison) markdown() string {
	var b strings.Builder
	for n, line := range c.lines() {
		for i, text := range line {
			line[i] = strings.ReplaceAll(escape(text), "BROKEN: ", "**broken:** ")
		}
		b.WriteString("| " + strings.Join(line, " | ") + " |\n")
		if n == 0 {
			b.WriteString("|---|---" + strings.Repeat("|--:", len(line)-3) + "|---|\n")
		}
	}
	b.WriteString("\nCalls by method, with as many viewers of one run as in the first table, and what the worker's client called beside its polls for tasks:\n\n| strategy | viewers | viewers' calls | worker's calls |\n|---|---|---|---|\n")
	for _, name := range strategy.Names() {
		for _, shared := range []bool{true, false} {
			if a := c.typical(name, shared); a != nil {
				fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, a.String(), methods(a.Calls.Made), methods(withoutPolls(a.WorkerCalls.Made)))
			}
		}
	}
	b.WriteString("\n")
	for _, cl := range c.claims() {
		fmt.Fprintf(&b, "- %s: %s, **%s**\n", escape(cl.what), escape(cl.found), cl.verdict())
	}
	form := "Full form"
	if c.Quick {
		form = "Quick form, in which times are not judged"
	}
	fmt.Fprintf(&b, "\n%s, Linux %s, %s. %s, %.0f minutes: the worker, Redis, the process that follows and that of its viewers on one core, Temporal's server on whatever two cores leave it, all on the loopback of one machine.",
		c.CPU, c.Kernel, c.Go, form, c.Seconds/60)
	if why := c.Disturbed(); why != "" {
		fmt.Fprintf(&b, " The machine was disturbed: %s.", why)
	}
	b.WriteString("\n")
	return b.String()
}
