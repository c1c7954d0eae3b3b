package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/runcast/runcast/bench/internal/arm"
	"github.com/runcast/runcast/pkg/strategy"
)

// The bounds beyond which an arm counts as broken: this share of its viewers,
// this share of its calls, and a p99 that is by so much above the time that the
// strategy waits by design. Some calls are refused with a few viewers already:
// while a workflow task is under way, Temporal has one query wait for it and
// refuses others.
const (
	maxShare   = .01
	maxRefused = .1
	maxLate    = 2 * time.Second
)

// judge says why an arm is broken; empty: it is not. A quick run is too short
// to judge times.
func judge(r *arm.Result, quick bool) string {
	if r.Strategy == arm.None {
		if r.Open > 0 {
			return fmt.Sprintf("%d of %s did not end in time", r.Open, plural(r.Runs, "run"))
		}
		return ""
	}
	viewers := r.Audience()
	too := func(n int) bool { return float64(n) > maxShare*float64(viewers) }
	failed, text := 0, ""
	for _, message := range sortedKeys(r.Errors) {
		if failed += r.Errors[message]; text == "" {
			text = message
		}
	}
	made, refused := r.Calls.Made.Total(), r.Calls.Refused.Total()
	var why []string
	if too(failed) {
		why = append(why, fmt.Sprintf("%d of %s got an error: %s", failed, plural(viewers, "viewer"), text))
	}
	if n := r.Notices[strategy.Degraded]; too(n) {
		why = append(why, fmt.Sprintf("%d of %s went on by polling", n, plural(viewers, "viewer")))
	}
	if float64(refused) > maxRefused*float64(made) {
		why = append(why, fmt.Sprintf("%.0f %% of the calls were refused", 100*float64(refused)/float64(made)))
	}
	if n := r.Notices[strategy.Stale]; too(n) {
		why = append(why, fmt.Sprintf("%d of %s were told that nobody answers", n, plural(viewers, "viewer")))
	}
	if r.Doubled > 0 {
		why = append(why, fmt.Sprintf("%d of %s saw the end more than once", r.Doubled, plural(viewers, "viewer")))
	}
	if n := viewers - r.Ended - r.Doubled - failed; too(n) {
		why = append(why, fmt.Sprintf("%d of %s had not seen the end after %s", n, plural(viewers, "viewer"), grace))
	}
	if too(r.Gaps) {
		why = append(why, fmt.Sprintf("%d times viewers were told of a gap", r.Gaps))
	}
	if !quick && r.Latency.P99 > float64((waits(r.Strategy)+maxLate).Milliseconds()) {
		why = append(why, fmt.Sprintf("p99 %.1f s", r.Latency.P99/1000))
	}
	if r.Open > 0 {
		why = append(why, fmt.Sprintf("%d of %s did not end in time", r.Open, plural(r.Runs, "run")))
	} else if float64(r.Late) > maxShare*float64(r.Expected()) {
		why = append(why, fmt.Sprintf("%d of %d changes never came", r.Late, r.Expected()))
	}
	return strings.Join(why, "; ")
}

// waits returns how long a strategy waits between two looks, at most.
func waits(name string) time.Duration {
	switch name {
	case strategy.Poll:
		return strategy.PollEvery
	case strategy.Adaptive:
		return strategy.AdaptiveMax
	}
	return 0
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
