package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
)

// The budget of a storm: the commands do not grow with the viewers, there are
// few of them, and none waits longer.
const (
	maxStormSeconds = 2
	// A comparison of heads or a reading may fall into either storm.
	stormSlack = 8
	// For connections, the subscription, and readings that are shared.
	maxStormCommands = 60
	// stormEvents a second are written while viewers come.
	stormEvents = 20
)

// storm has viewers of one topic resume within a second, at a thousand
// different positions in no order, while events go on: first on a node that
// does not know the topic, then, all cut off at once, on one that does.
func storm(ctx context.Context, b *bench) error {
	small, large := pick(b, 500, 50), pick(b, 5000, 500)
	for _, ws := range []bool{false, true} {
		var cold, warm stormFound
		for round := range b.trials() {
			for _, viewers := range []int{small, large} {
				if viewers == small && round > 0 {
					continue
				}
				res, err := b.try(ctx, subscriber, round, trial.Config{
					WebSocket: ws, Viewers: viewers, Positions: pick(b, 1000, 100), During: stormEvents, Spread: pick(b, time.Second, 300*time.Millisecond),
				})
				if err != nil {
					return fmt.Errorf("%d viewers, %s: %w", viewers, transport(ws), err)
				}
				cold.add(&res.Attach, viewers == small)
				warm.add(res.Again, viewers == small)
			}
		}
		what := fmt.Sprintf("%d viewers at %d positions, %s, ", large, pick(b, 1000, 100), transport(ws))
		cold.rows(b, what+"a cold node", small)
		warm.rows(b, what+"a warm node", small)
	}
	return nil
}

// stormFound is what storms of one kind found.
type stormFound struct {
	small    int64 // commands with few viewers
	commands []float64
	names    string
	waits    []float64
	first    float64
	busy     string
	seconds  float64
	past     int64
	lacks    int64
}

func (s *stormFound) add(a *trial.Attach, small bool) {
	var calls int64
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(a.Commands)) {
		if name != "ping" { // it comes with the time, not with viewers
			calls += a.Commands[name]
			parts = append(parts, fmt.Sprintf("%d %s", a.Commands[name], name))
		}
	}
	s.lacks += a.Failures()
	if small {
		s.small = calls
		return
	}
	s.commands, s.names = append(s.commands, float64(calls)), strings.Join(parts, ", ")
	s.waits = append(s.waits, a.Wait.Max/1000)
	s.first, s.busy = max(s.first, a.First.Max/1000), a.Busy
	s.seconds, s.past = max(s.seconds, a.Seconds), a.Expected
}

// rows judges counts of commands in the quick form, too.
func (s *stormFound) rows(b *bench, what string, small int) {
	most := slices.Max(s.commands)
	b.row(report.Row{
		What: what + ": Redis commands", Subscriber: report.Value(report.Median(s.commands)),
		Check: &report.Check{Value: most, Limit: maxStormCommands}, Note: notes(s.names, report.Spread(s.commands)),
	})
	b.row(report.Row{
		What: fmt.Sprintf("  more than %d viewers take", small), Subscriber: report.Value(report.Median(s.commands) - float64(s.small)),
		Check: &report.Check{Value: report.Median(s.commands) - float64(s.small), Limit: stormSlack},
	})
	b.row(b.median(report.Row{
		What: "  longest wait until a viewer has everything", Unit: "s", Note: fmt.Sprintf(
			"for its first frame %.2f s; all are there after %.2f s at most; %d deliveries, %d events/s meanwhile; %s", s.first, s.seconds, s.past, stormEvents, s.busy),
	}, s.waits, maxStormSeconds))
	b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: report.Value(float64(s.lacks)), Check: none(s.lacks, "")})
}
