package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strconv"

	"github.com/runcast/runcast/bench/internal/report"
	"github.com/runcast/runcast/pkg/strategy"
)

// The plot: four panels, calls and lateness below each other, shared and not
// shared side by side.
const (
	plotWidth, plotHeight     = 960, 760
	panelWidth, panelHeight   = 380, 250
	panelLeft, panelTop       = 80, 110
	panelRight, panelBelow    = 90, 80 // between panels
	maxViewersShown           = 1000
	markSize                  = 4.5
	leastCalls, mostCalls     = 1, 1e6
	leastMillis, mostMillis   = 1, 1e5
	zeroShare                 = .1 // of a panel's height, for zero
	legendLeft, legendTop     = 80, 66
	legendStep, titleBaseline = 110, 30
)

// style serves light and dark: the hues are legible on both, and each
// strategy has a mark of its own as well.
const style = `
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 17px; font-weight: 600 } .head { font-weight: 600 } .small { font-size: 12px; fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 } .axis { stroke: #57606a; stroke-width: 1 }
  .line { fill: none; stroke-width: 2 } .mark { stroke-width: 1.5 }
  .cross { stroke: #cf222e; stroke-width: 2.5; fill: none }
  .poll { stroke: #0969da; fill: #0969da } .adaptive { stroke: #1b8a7a; fill: #1b8a7a } .update { stroke: #8250df; fill: #8250df }
  .signal { stroke: #bf5b00; fill: #bf5b00 } .push { stroke: #c2358b; fill: #c2358b } .redis { stroke: #5d7a00; fill: #5d7a00 }
  .line.poll, .line.adaptive, .line.update, .line.signal, .line.push, .line.redis { fill: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #30363d } .axis { stroke: #9198a1 } .cross { stroke: #ff7b72 }
    .poll { stroke: #58a6ff; fill: #58a6ff } .adaptive { stroke: #39c5b0; fill: #39c5b0 } .update { stroke: #b792ff; fill: #b792ff }
    .signal { stroke: #f0a04b; fill: #f0a04b } .push { stroke: #f778ba; fill: #f778ba } .redis { stroke: #b5d334; fill: #b5d334 }
  }
`

// panel is one of the plot.
type panel struct {
	x, y        float64
	head, unit  string
	shared      bool
	least, most float64
	value       func(*armResult) float64
}

// plot draws the comparison as SVG.
func (c *comparison) plot() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"t d\">\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, "<title id=\"t\">What following a run costs Temporal, and how late it is</title>\n<desc id=\"d\">Calls to Temporal and p99 of the notification, by the number of viewers, for six strategies; the figures are in the table beside it.</desc>\n")
	fmt.Fprintf(&b, "<style>%s</style>\n", style)
	fmt.Fprintf(&b, "<text class=\"title\" x=\"%d\" y=\"%d\">What following a run costs Temporal, and how late it is</text>\n", legendLeft, titleBaseline)
	for i, name := range strategy.Names() {
		x := float64(legendLeft + i*legendStep)
		fmt.Fprintf(&b, "<line class=\"line %s\" x1=\"%.0f\" y1=\"%d\" x2=\"%.0f\" y2=\"%d\"/>", name, x, legendTop-4, x+24, legendTop-4)
		mark(&b, name, x+12, legendTop-4)
		fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%d\">%s</text>\n", x+30, legendTop, name)
	}
	x := float64(legendLeft + len(strategy.Names())*legendStep)
	cross(&b, x+12, legendTop-4)
	fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%d\">broken</text>\n", x+24, legendTop)
	for col, shared := range []bool{true, false} {
		what := "one watch for all viewers"
		if !shared {
			what = "a watch for each viewer"
		}
		left := float64(panelLeft + col*(panelWidth+panelRight))
		c.draw(&b, panel{left, panelTop, "calls to Temporal a minute, " + what, "calls", shared, leastCalls, mostCalls,
			func(a *armResult) float64 { return a.PerViewerMinute() * float64(a.Viewers) }})
		c.draw(&b, panel{left, panelTop + panelHeight + panelBelow, "p99 of the notification, " + what, "ms", shared, leastMillis, mostMillis,
			func(a *armResult) float64 {
				if a.Latency.Count == 0 {
					return mostMillis // no run has ended, so nothing is known to have come
				}
				return a.Latency.P99
			}})
	}
	b.WriteString("</svg>\n")
	return b.Bytes(), nil
}

// place returns where a value is: both axes are logarithmic, with room for
// zero at the bottom.
func (p *panel) place(viewers int, v float64) (x, y float64) {
	x = p.x + panelWidth*math.Log10(float64(viewers))/math.Log10(maxViewersShown)
	share := 0.
	if v > 0 {
		v = min(max(v, p.least), p.most)
		share = zeroShare + (1-zeroShare)*math.Log10(v/p.least)/math.Log10(p.most/p.least)
	}
	return x, p.y + panelHeight*(1-share)
}

func (c *comparison) draw(b *bytes.Buffer, p panel) {
	fmt.Fprintf(b, "<text class=\"head\" x=\"%.0f\" y=\"%.0f\">%s</text>\n", p.x, p.y-12, html.EscapeString(p.head))
	rule := func(v float64) {
		_, y := p.place(1, v)
		fmt.Fprintf(b, "<line class=\"grid\" x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\"/><text class=\"small\" text-anchor=\"end\" x=\"%.0f\" y=\"%.1f\">%s</text>\n",
			p.x, y, p.x+panelWidth, y, p.x-8, y+4, report.Number(v))
	}
	rule(0)
	for v := p.least; v <= p.most; v *= 10 {
		rule(v)
	}
	for n := 1; n <= maxViewersShown; n *= 10 {
		x, y := p.place(n, 0)
		fmt.Fprintf(b, "<line class=\"axis\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/><text class=\"small\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
			x, y, x, y+5, x, y+20, report.Number(float64(n)))
	}
	fmt.Fprintf(b, "<text class=\"small\" text-anchor=\"middle\" x=\"%.0f\" y=\"%.0f\">viewers</text>\n", p.x+panelWidth/2., p.y+panelHeight+38.)
	fmt.Fprintf(b, "<text class=\"small\" text-anchor=\"end\" x=\"%.0f\" y=\"%.0f\">%s</text>\n", p.x-8, p.y-12, p.unit)
	for _, name := range strategy.Names() {
		c.series(b, &p, name)
	}
}

// series draws one strategy: the line first, so that no mark is below it.
func (c *comparison) series(b *bytes.Buffer, p *panel, name string) {
	var points, marks bytes.Buffer
	for n := 1; n <= maxViewersShown; n *= 10 {
		a := c.find(name, n, p.shared)
		if a == nil || a.Skipped != "" {
			continue
		}
		x, y := p.place(n, p.value(a))
		points.WriteString(strconv.FormatFloat(x, 'f', 1, 64) + "," + strconv.FormatFloat(y, 'f', 1, 64) + " ")
		if a.Broken != "" {
			cross(&marks, x, y)
		} else {
			mark(&marks, name, x, y)
		}
	}
	if points.Len() > 0 {
		fmt.Fprintf(b, "<polyline class=\"line %s\" points=\"%s\"/>%s\n", name, bytes.TrimSpace(points.Bytes()), marks.Bytes())
	}
}

// mark draws the form of a strategy.
func mark(b *bytes.Buffer, name string, x, y float64) {
	const s = markSize
	form := func(d string, args ...any) {
		fmt.Fprintf(b, "<path class=\"mark %s\" d=\"%s\"/>", name, fmt.Sprintf(d, args...))
	}
	switch name {
	case strategy.Poll:
		fmt.Fprintf(b, "<circle class=\"mark %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>", name, x, y, s)
	case strategy.Adaptive:
		form("M%.1f %.1fh%.1fv%.1fh%.1fz", x-s, y-s, 2*s, 2*s, -2*s)
	case strategy.Update:
		form("M%.1f %.1fl%.1f %.1fh%.1fz", x, y-s-1, s+1, 2*s, -2*s-2)
	case strategy.Signal:
		form("M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz", x, y-s-1.5, s+1.5, s+1.5, -s-1.5, s+1.5, -s-1.5, -s-1.5)
	case strategy.Push:
		form("M%.1f %.1fl%.1f %.1fh%.1fz", x, y+s+1, s+1, -2*s, -2*s-2)
	default:
		form("M%.1f %.1fh%.1fv%.1fh%.1fv%.1fh%.1fv%.1fh%.1fv%.1fh%.1fv%.1fh%.1fz",
			x-1.5, y-s-1, 3., s-.5, s-.5, 3., -s+.5, s-.5, -3., -s+.5, -s+.5, -3., s-.5)
	}
}

// cross marks an arm that broke.
func cross(b *bytes.Buffer, x, y float64) {
	const s = markSize + 1
	fmt.Fprintf(b, "<path class=\"cross\" d=\"M%.1f %.1fl%.1f %.1fm0 %.1fl%.1f %.1f\"/>", x-s, y-s, 2*s, 2*s, -2*s, -2*s, 2*s)
}
