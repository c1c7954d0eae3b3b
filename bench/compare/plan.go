package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/pkg/strategy"
)

// shape is how many runs have how many viewers each.
type shape struct {
	runs, viewers int
	shared        bool
	changes       int
	over          time.Duration
}

// The workloads. A single run changes 50 times in ten seconds. Two hundred of
// them make a thousand changes a second, which is more than the embedded
// server carries with nobody following, as is measured: those that are
// followed make fifty a second together.
const (
	oneChanges  = 50
	oneOver     = 10 * time.Second
	manyRuns    = 200
	manyViewers = 5
	manyChanges = 5
	manyOver    = 20 * time.Second
)

// shapes returns what is measured of a strategy, in order. One viewer shares
// with nobody, so that is measured once.
func shapes(quick bool) []shape {
	if quick {
		few := shape{runs: 1, viewers: 3, changes: 10, over: time.Second}
		served := few
		served.shared = true
		return []shape{few, served}
	}
	one := func(viewers int, shared bool) shape {
		return shape{runs: 1, viewers: viewers, shared: shared, changes: oneChanges, over: oneOver}
	}
	return []shape{
		one(1, true), one(10, true), one(100, true), one(1000, true), one(10, false), one(100, false), one(1000, false),
		{runs: manyRuns, viewers: manyViewers, shared: true, changes: manyChanges, over: manyOver},
	}
}

// alone returns what nobody follows, for comparison.
func alone(quick bool) []shape {
	if quick {
		return []shape{{runs: 1, changes: 10, over: time.Second}}
	}
	return []shape{
		{runs: 1, changes: oneChanges, over: oneOver}, {runs: manyRuns, changes: manyChanges, over: manyOver},
		// What the server makes of as many runs like the single one.
		{runs: manyRuns, changes: oneChanges, over: oneOver},
	}
}

// choose returns the strategies in the list, or all.
func choose(list string) ([]string, error) {
	all := append([]string{arm.None}, strategy.Names()...)
	if list == "" {
		return all, nil
	}
	names := []string{arm.None}
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("unknown strategy %q; there are %s", name, strings.Join(strategy.Names(), ", "))
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// noTime is why an arm is left out that would have begun too late.
const noTime = "no time was left"

// measure goes through all arms, each strategy on servers of its own.
func measure(ctx context.Context, c *comparison, o settings, names []string, until time.Time, stderr io.Writer) error {
	for _, name := range names {
		if err := measureOne(ctx, c, o, name, until, stderr); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func measureOne(ctx context.Context, c *comparison, o settings, name string, until time.Time, stderr io.Writer) error {
	s, err := startServers(ctx, c.Cores, o.bin, name)
	if err != nil {
		return err
	}
	defer s.stop()
	todo := shapes(o.quick)
	if name == arm.None {
		todo = alone(o.quick)
	}
	// broken is why shapes with more viewers are not tried, by whether their
	// upstream is shared.
	broken := make(map[bool]string)
	for _, sh := range todo {
		a := armResult{Result: &arm.Result{Strategy: name, Shared: sh.shared, Runs: sh.runs, Viewers: sh.viewers, Changes: sh.changes}}
		switch {
		case sh.runs == 1 && broken[sh.shared] != "":
			a.Skipped = "broke with fewer viewers"
		case time.Now().Add(sh.over).After(until):
			a.Skipped = noTime
		default:
			began := time.Now()
			if a.Result, err = s.measure(ctx, sh); err != nil {
				return err
			}
			a.Result.Broken = judge(a.Result, o.quick)
			if a.Broken != "" && sh.runs > 1 && name != arm.None {
				fmt.Fprintf(stderr, "%s, %s: %.0f s %s; once more\n", name, sh, time.Since(began).Seconds(), a.Broken)
				if err := a.again(ctx, s, sh, o.quick); err != nil {
					return err
				}
			}
			if sh.runs == 1 {
				broken[sh.shared] = a.Result.Broken
			}
			fmt.Fprintf(stderr, "%s, %s: %.0f s %s\n", name, sh, time.Since(began).Seconds(), a.Result.Broken)
		}
		c.Arms = append(c.Arms, a)
	}
	return nil
}

// again measures an arm that broke once more. Two hundred runs leave the server
// little to spare, and a moment in which it is slow breaks an arm of them that
// holds at other times: the second try counts.
func (a *armResult) again(ctx context.Context, s *servers, sh shape, quick bool) error {
	r, err := s.measure(ctx, sh)
	if err != nil {
		return err
	}
	a.FirstTry, a.Result = a.Broken, r
	a.Broken = judge(r, quick)
	return nil
}

// String describes the shape.
func (s shape) String() string {
	switch {
	case s.runs > 1 && s.changes == oneChanges:
		return fmt.Sprintf("%d runs with %d changes each in %s", s.runs, s.changes, oneOver)
	case s.viewers == 0:
		return plural(s.runs, "run")
	case s.runs > 1:
		return fmt.Sprintf("%d runs with %s each", s.runs, plural(s.viewers, "viewer"))
	case s.viewers == 1:
		return "1 viewer"
	case s.shared:
		return fmt.Sprintf("%d viewers, shared", s.viewers)
	}
	return fmt.Sprintf("%d viewers, not shared", s.viewers)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
