package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/runcast/runcast/pkg/progress"
)

// terminal shows a run to a person: one line with a bar that is drawn over
// and over, and above it what was logged, written and missed.
type terminal struct {
	w        io.Writer
	width    func() int
	workflow string
	now      func() time.Time

	state   progress.Snapshot
	known   bool             // state is the run's, and not only what came after a position
	text    map[string]*line // by step: the unfinished last line of its output
	trouble string           // shown in place of the message while disconnected
	drawn   string           // the bar that stands on the last line
}

func (t *terminal) frame(f frame) error {
	t.trouble = ""
	switch f.kind {
	case "snapshot":
		var s progress.Snapshot
		if err := json.Unmarshal(f.data, &s); err != nil {
			return fmt.Errorf("read a snapshot: %w", err)
		}
		if err := t.snapshot(&s); err != nil {
			return err
		}
	case "update", "end":
		var e progress.Event
		if err := json.Unmarshal(f.data, &e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		if err := t.event(&e); err != nil {
			return err
		}
		if f.kind == "end" {
			return t.finish(&e)
		}
	case "gap":
		var gap struct{ From, To, Reason string }
		if err := json.Unmarshal(f.data, &gap); err != nil {
			return fmt.Errorf("read a gap: %w", err)
		}
		if err := t.above(fmt.Sprintf("gap from %s to %s: %s", gap.From, gap.To, gap.Reason)); err != nil {
			return err
		}
	}
	return t.draw()
}

// event folds the event into the state and says what has to be said of it.
func (t *terminal) event(e *progress.Event) error {
	if !t.known && e.Seq != t.state.Seq+1 {
		// Going on from a position: the state before it is not known.
		t.state = progress.Snapshot{V: progress.Version, WorkflowID: e.WorkflowID, Epoch: e.Epoch, Seq: e.Seq - 1}
	}
	if err := t.state.Apply(e); err != nil && !errors.Is(err, progress.ErrNotNext) {
		return err
	}
	if e.Lost > 0 {
		if err := t.above(fmt.Sprintf("%d events before this one were lost by their writer", e.Lost)); err != nil {
			return err
		}
	}
	switch e.Type {
	case progress.TypeStep:
		if !e.Status.IsTerminal() {
			return nil
		}
		if err := t.flush(e.Step); err != nil {
			return err
		}
		line := e.Step + ": " + word(e.Status)
		if e.Error != "" {
			line += ": " + e.Error
		}
		return t.above(line)
	default:
		return t.record(e)
	}
}

func (t *terminal) finish(e *progress.Event) error {
	if err := t.flushAll(); err != nil {
		return err
	}
	if err := t.draw(); err != nil {
		return err
	}
	line := t.workflow + " " + word(e.Status)
	if !t.state.StartedAt.IsZero() && t.known {
		line += " in " + seconds(e.Time.Sub(t.state.StartedAt))
	}
	if e.Error != "" {
		line += ": " + e.Error
	}
	_, err := fmt.Fprintf(t.w, "\n%s\n", printable(line))
	t.drawn = ""
	return err
}

// tick lets the clock of the bar go on.
func (t *terminal) tick() error { return t.draw() }

func (t *terminal) note(_ io.Writer, text string) {
	t.trouble = text
	_ = t.draw() // an output that is gone shows with the next frame
}

func (t *terminal) close() {
	if t.drawn != "" {
		fmt.Fprintln(t.w)
		t.drawn = ""
	}
}

const clearLine = "\r\x1b[K"

// above prints lines where the bar was, and the bar below them with the next
// drawing.
func (t *terminal) above(text ...string) error {
	var b strings.Builder
	if t.drawn != "" {
		b.WriteString(clearLine)
		t.drawn = ""
	}
	for _, line := range text {
		b.WriteString(printable(line))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// draw draws the bar, if it is not the one that stands there.
func (t *terminal) draw() error {
	bar := t.bar(max(t.width(), 20) - 1) // a full last column would wrap
	if bar == t.drawn {
		return nil
	}
	t.drawn = bar
	_, err := io.WriteString(t.w, clearLine+bar)
	return err
}

// bar returns the line, of at most width columns:
//
//	[##########..........]  50 %  0:12  pack: 5 of 10, label 7
func (t *terminal) bar(width int) string {
	const cells = 24
	s := &t.state
	percent, known := percentOf(s)
	var b strings.Builder
	b.WriteByte('[')
	full := int(percent / 100 * cells)
	for i := range cells {
		switch {
		case known && i < full:
			b.WriteByte('#')
		default:
			b.WriteByte('.')
		}
	}
	if known {
		fmt.Fprintf(&b, "] %3d %%", int(percent))
	} else {
		b.WriteString("]      ")
	}
	if !s.StartedAt.IsZero() && t.known {
		end := t.now()
		if s.Closed() {
			end = s.ClosedAt
		}
		d := max(end.Sub(s.StartedAt), 0)
		fmt.Fprintf(&b, "  %d:%02d", int(d.Minutes()), int(d.Seconds())%60)
	}
	b.WriteString("  ")
	b.WriteString(t.saying())
	return clip(printable(b.String()), width)
}

// saying is what stands beside the bar.
func (t *terminal) saying() string {
	s := &t.state
	switch {
	case t.trouble != "":
		return t.trouble
	case s.Seq == 0:
		return "waiting for " + t.workflow
	}
	parts := []string{}
	if s.Step != "" {
		parts = append(parts, s.Step)
	}
	if s.Current != nil && s.Total != nil {
		parts = append(parts, fmt.Sprintf("%d of %d", *s.Current, *s.Total))
	}
	if s.Message != "" {
		parts = append(parts, s.Message)
	}
	if len(parts) == 0 || s.Status != progress.StatusRunning {
		parts = append([]string{word(s.Status)}, parts...)
	}
	return strings.Join(parts, ", ")
}

// percentOf returns how far the run is; false: it does not say.
func percentOf(s *progress.Snapshot) (float64, bool) {
	switch {
	case s.Status == progress.StatusCompleted:
		return 100, true
	case s.Percent != nil:
		return min(max(*s.Percent, 0), 100), true
	case s.Current != nil && s.Total != nil && *s.Total > 0:
		return min(max(100*float64(*s.Current)/float64(*s.Total), 0), 100), true
	}
	return 0, false
}

func word(s progress.Status) string {
	if s == progress.StatusTimedOut {
		return "timed out"
	}
	return string(s)
}

// printable replaces what a terminal would take for a command: text from
// outside must not move the cursor or rename the window.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
}

// clip cuts text to width runes.
func clip(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	runes := []rune(text)
	return string(runes[:width-1]) + "~"
}
