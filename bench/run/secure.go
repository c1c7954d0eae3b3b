package main

import (
	"context"
	"fmt"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/bench/internal/trial"
	"github.com/runcast/runcast/bench/internal/viewers"
)

// secure measures what a delivery costs over TLS and HTTP/2, which take the
// ordinary path, beside the floor's in the clear. There is no budget for it.
func secure(ctx context.Context, b *bench) error {
	n, phases := pick(b, 1000, 100), cpuPhases(b)
	config := func(way viewers.Secure, ws bool) trial.Config {
		return trial.Config{Viewers: n, Phases: phases, Secure: way, WebSocket: ws}
	}
	for _, form := range []struct {
		ws   bool
		ways []contestant
	}{
		{false, []contestant{
			{"SSE over TLS", subscriber, config(viewers.TLS, false)},
			{"SSE over HTTP/2", subscriber, config(viewers.HTTP2, false)},
		}},
		{true, []contestant{{"WebSocket over TLS", subscriber, config(viewers.TLS, true)}}},
	} {
		c, err := b.compare(ctx, b.trials(), append(form.ways, contestant{floor, floor, config(viewers.Clear, form.ws)}))
		if err != nil {
			return err
		}
		for _, way := range form.ways {
			for p, phase := range phases {
				ratio, spread, err := c.ratio(way.label, floor, p)
				if err != nil {
					return err
				}
				b.row(report.Row{
					What: fmt.Sprintf("CPU per delivery, %s, %d viewers, %g events/s", way.label, n, phase.Rate), Unit: "µs",
					Floor: c.cost(floor, p), Subscriber: c.cost(way.label, p), Note: notes(fmt.Sprintf("%.2f x floor in the clear", ratio), spread),
				})
				b.row(report.Row{What: "  lost, late, doubled, closed", Subscriber: c.lacking(way.label, p), Check: none(c.lacks[way.label][p], "")})
			}
		}
	}
	return nil
}
