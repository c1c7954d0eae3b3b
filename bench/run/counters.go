package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/runcast/runcast/bench/internal/machine"
	"github.com/runcast/runcast/bench/internal/trial"
	"github.com/runcast/runcast/bench/internal/viewers"
)

// of the subscriber's own figures.
const prefix = "runcast_subscriber_"

// counters reads what a subscriber says of itself, by name and labels.
func counters(ctx context.Context, url string) (map[string]float64, error) {
	body, err := machine.Get(ctx, url+"/metrics")
	if err != nil {
		return nil, fmt.Errorf("read the subscriber's counters: %w", err)
	}
	defer body.Close()
	return parseCounters(body)
}

func parseCounters(r io.Reader) (map[string]float64, error) {
	found := make(map[string]float64)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), prefix), " ")
		if !ok || !strings.HasPrefix(lines.Text(), prefix) || strings.Contains(name, "_bucket{") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("read the subscriber's counters: %q: %w", lines.Text(), err)
		}
		found[name] = n
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the subscriber's counters: %w", err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the subscriber tells no %s… of itself", prefix)
	}
	return found, nil
}

// total sums a figure over its labels, but for one of them.
func total(found map[string]float64, name, but string) (sum int64) {
	for key, n := range found {
		rest, ok := strings.CutPrefix(key, name)
		if ok && (rest == "" || rest[0] == '{') && (but == "" || !strings.Contains(rest, but)) {
			sum += int64(n)
		}
	}
	return sum
}

// disagreement compares what the subscriber says with what its viewers saw. A
// trial in which they differ is none.
func disagreement(res *trial.Result, c trial.Config) error {
	var closed, gaps int64
	seen := func(c *viewers.Counts) { closed, gaps = closed+c.Closed, gaps+c.Gaps }
	for i := range res.Phases {
		seen(&res.Phases[i].Counts)
	}
	for _, a := range []*trial.Attach{&res.Attach, res.Again} {
		if a != nil && a.Seen != nil {
			seen(a.Seen)
		}
	}
	// Load cuts its viewers off in the end.
	closes := total(res.Server, "closes_total", `reason="client"`)
	saidGaps := total(res.Server, "gaps_total", "")
	switch {
	case c.Stuck > 0:
		// Those who take nothing are closed, and may have been sent gaps that
		// nobody saw.
		if closes > closed+int64(c.Stuck) {
			return fmt.Errorf("the subscriber closed %d viewers, %d saw it and %d took nothing", closes, closed, c.Stuck)
		}
	case closes != closed:
		return fmt.Errorf("the subscriber closed %d viewers, but %d saw it", closes, closed)
	case saidGaps != gaps:
		return fmt.Errorf("the subscriber sent %d gaps, but %d were seen", saidGaps, gaps)
	}
	if n := total(res.Server, "head_mismatches_total", ""); n > 0 {
		return fmt.Errorf("the subscriber found itself behind Redis %d times, though no message was lost", n)
	}
	if n := total(res.Server, "inbox_dropped_total", ""); n > 0 && !overloaded(c) {
		return fmt.Errorf("the subscriber had more messages than it holds %d times, which no load but an overload may come to", n)
	}
	return nil
}

// overloaded reports whether a trial is one that a server need not keep up
// with.
func overloaded(c trial.Config) bool {
	for _, p := range c.Phases {
		if p.Rate >= overloadRate {
			return true
		}
	}
	return false
}
