package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/bench/internal/frontend"
	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/pkg/strategy"
)

// claim is one that the comparison checks.
type claim struct {
	what, found string
	holds       bool
	// skipped: the run was too short, or too small, to judge it.
	skipped bool
}

func (c *claim) verdict() string {
	switch {
	case c.skipped:
		return "not judged"
	case c.holds:
		return "so"
	}
	return "NOT SO"
}

// A poll is two calls, twice a second.
const (
	pollPerMinute = 240
	pollTolerance = .15
)

// claimViewers is the number of viewers that claims are about.
const claimViewers = 100

// claims judges what was measured.
func (c *comparison) claims() []claim {
	var all []claim
	viewers := claimViewers
	if c.Quick {
		viewers = 3
	}
	for _, shared := range []bool{true, false} {
		what := "shared"
		if !shared {
			what = "not shared"
		}
		if a := c.find(strategy.Redis, viewers, shared); a != nil && a.Skipped == "" {
			n := a.Calls.Made.Total()
			all = append(all, claim{
				what:  fmt.Sprintf("redis calls Temporal for no viewer, %d viewers, %s", viewers, what),
				found: fmt.Sprintf("%d calls; the worker's client made %d", n, a.WorkerCalls.Made.Total()), holds: n == 0,
			})
		}
		if a := c.find(strategy.Poll, viewers, shared); a != nil && a.Skipped == "" {
			per, about := a.PerViewerMinute(), float64(pollPerMinute)
			if shared {
				about /= float64(viewers)
			}
			all = append(all, claim{
				what:  fmt.Sprintf("poll calls Temporal about %s times a minute for each viewer, %d viewers, %s", report.Number(about), viewers, what),
				found: report.Number(per), holds: math.Abs(per-about) <= pollTolerance*about, skipped: c.Quick,
			})
		}
	}
	return append(all, c.serverAgrees(), c.actionsAgree(), c.complete())
}

// serverAgrees judges whether the server has counted the calls that were made.
// Where an arm broke, clients have given calls up that may be in one count
// only: there the difference is told, and not judged.
func (c *comparison) serverAgrees() claim {
	var calls, arms int64
	differ := make(frontend.Calls)
	var broken []string
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.Skipped != "" {
			continue
		}
		// A call that is made while the counts are read is in one of them only.
		of := make(frontend.Calls)
		for method, n := range a.Uncounted() {
			if abs(n) > slack(a.Server.Calls[method]) {
				of[method] = n
			}
		}
		if a.Broken != "" {
			if len(of) > 0 {
				broken = append(broken, fmt.Sprintf("%s with %s: %s", a.Strategy, a.String(), methods(of)))
			}
			continue
		}
		arms++
		calls += a.Server.Calls.Total()
		differ.Add(of)
	}
	found := fmt.Sprintf("%s calls in %d arms", report.Number(float64(calls)), arms)
	if len(differ) > 0 {
		found += "; it counted more, or less, of " + methods(differ)
	}
	return claim{what: "the server's metrics count the calls that were made", found: found + aside(broken), holds: len(differ) == 0 && calls > 0}
}

// actionsAgree judges whether the server's count of actions is the one by the
// definition; of arms that broke as [comparison.serverAgrees] does.
func (c *comparison) actionsAgree() claim {
	var server, counted int64
	var differ, broken []string
	for i := range c.Arms {
		a := &c.Arms[i]
		if a.Skipped != "" || a.Open > 0 {
			continue // what was terminated is billed, and gone
		}
		s, n := a.Actions(), a.CountedActions()
		what := ""
		if abs(s-n) > slack(s) {
			what = fmt.Sprintf("%s with %s: %s and %s", a.Strategy, a.String(), report.Number(float64(s)), report.Number(float64(n)))
		}
		switch {
		case a.Broken == "":
			server, counted = server+s, counted+n
			if what != "" {
				differ = append(differ, what)
			}
		case what != "":
			broken = append(broken, what)
		}
	}
	found := fmt.Sprintf("%s and %s", report.Number(float64(server)), report.Number(float64(counted)))
	if len(differ) > 0 {
		found += "; " + strings.Join(differ, "; ")
	}
	return claim{what: "billable actions by the server's metric and by histories and calls", found: found + aside(broken), holds: len(differ) == 0}
}

// aside tells what was found in arms that broke.
func aside(broken []string) string {
	if len(broken) == 0 {
		return ""
	}
	return " (not judged, since they broke: " + strings.Join(broken, "; ") + ")"
}

// complete judges whether all was measured that a full run has.
func (c *comparison) complete() claim {
	late := 0
	for _, a := range c.Arms {
		if a.Skipped == noTime {
			late++
		}
	}
	return claim{
		what: "all was measured in time", found: fmt.Sprintf("%d arms, %d left out for want of time", len(c.Arms), late), holds: late == 0,
	}
}

// slack is by how many two counts of the same may differ.
func slack(n int64) int64 { return 2 + n/100 }

func abs(n int64) int64 { return max(n, -n) }

// failed returns how many claims do not hold.
func (c *comparison) failed() (n int) {
	for _, cl := range c.claims() {
		if !cl.skipped && !cl.holds {
			n++
		}
	}
	return n
}

// measured reports whether there is anything of a strategy.
func (c *comparison) measured(name string) bool {
	for _, a := range c.Arms {
		if a.Strategy == name && a.Skipped == "" && name != arm.None {
			return true
		}
	}
	return false
}
