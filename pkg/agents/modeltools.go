package agents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxPeriods bounds how many reports one message gets.
const maxPeriods = 3

// timesheet has the model say what is to be recorded and looked up, and does
// that once it has ended: all at once, so that a try that breaks off has
// recorded nothing, and the next may decide otherwise. What the sender is
// told of it comes from what is recorded, never from the model.
func (m *model) timesheet(ctx context.Context, task Task, w Watcher) (Finding, error) {
	recorded, err := m.o.Hours.Recorded(ctx, task.Sender, task.Key)
	if err != nil {
		return Finding{}, fmt.Errorf("read what was recorded: %w", err)
	}
	if len(recorded) > 0 {
		return m.recordedBefore(ctx, task, recorded, w)
	}
	var wanted wanted
	text, err := m.ask(ctx, `You keep the timesheet of the sender. Have hours recorded with record_hours and look them up with report_hours; the sender is told by us what was recorded and looked up. Then answer in one or two sentences what else there is to say. If the project or the number of hours is missing, ask for it. Never say that something was recorded.`,
		task, wanted.tools(m.o.Hours, task, w), w)
	if err != nil {
		return Finding{}, err
	}
	f := Finding{Agent: Timesheet}
	if len(wanted.entries) > 0 {
		text, done, err := recordEntries(ctx, m.o.Hours, task, wanted.entries, w)
		if err != nil {
			return Finding{}, err
		}
		f.Done, f.Recorded = append(f.Done, text), done
	}
	for _, p := range wanted.periods {
		text, err := reportHours(ctx, m.o.Hours, task, p, "", w)
		if err != nil {
			return Finding{}, err
		}
		f.Done = append(f.Done, text)
	}
	_, own := splitReminder(task.Text)
	switch {
	case len(f.Done) == 0 && records(own):
		f.Done, f.Text = []string{"Nothing was recorded."}, text
	case len(f.Done) == 0:
		f.Text = text
	}
	return f, nil
}

// recordedBefore is what a try finds that comes after one that has recorded
// and could not say so. The model is not asked again: it might want
// otherwise, and it may be away.
func (m *model) recordedBefore(ctx context.Context, task Task, recorded []Entry, w Watcher) (Finding, error) {
	f := Finding{Agent: Timesheet, Recorded: true, Done: []string{recordedText(recorded, task.Now)}}
	w.Thought("An earlier try has recorded hours.", "An earlier try has recorded: "+f.Done[0])
	if reports(task.Text) {
		text, err := (&timesheet{m.o.Hours}).report(ctx, task, w)
		if err != nil {
			return Finding{}, err
		}
		f.Done = append(f.Done, text)
	}
	return f, nil
}

// wanted is what the model wants done, in the order in which it said so.
type wanted struct {
	calls   []string // of record_hours, to know a repetition
	entries []Entry
	periods []period
}

// tools returns the tools of the timesheet agent, which note what is wanted.
func (d *wanted) tools(h Hours, task Task, w Watcher) []tool {
	report := func(ctx context.Context, data []byte) (string, error) {
		p, wrong := d.report(data, task.Now)
		if wrong != "" {
			return wrong, nil
		}
		text, err := reportHours(ctx, h, task, p, "", w)
		if len(d.entries) > 0 {
			text += " That is without what was noted just now."
		}
		return text, err
	}
	return []tool{{
		name: "record_hours", about: "Adds hours to the sender's timesheet; with replace, puts them in the place of what is there.",
		call: func(_ context.Context, data []byte) (string, error) { return d.record(data, task.Now), nil },
		parameters: object(map[string]any{
			"entries": map[string]any{"type": "array", "items": object(map[string]any{
				"day": kind("string", "such as 2026-11-24"), "project": kind("string", "the project's name"), "hours": kind("number", "hours worked"),
			}, "day", "project", "hours")},
			"replace": kind("boolean", "whether they replace what is there"),
		}, "entries"),
	}, {
		name: "report_hours", about: "Returns the sender's hours of the days from first to last, both included.", call: report,
		parameters: object(map[string]any{"first": kind("string", "such as 2026-11-23"), "last": kind("string", "such as 2026-11-29")}, "first", "last"),
	}}
}

// record notes entries, and returns what to tell the model.
func (d *wanted) record(data []byte, now time.Time) string {
	var in struct {
		Entries []Entry `json:"entries"`
		Replace bool    `json:"replace"`
	}
	if wrong := readArguments(data, &in); wrong != "" {
		return wrong
	}
	if len(in.Entries) == 0 || len(d.entries)+len(in.Entries) > maxEntries {
		return fmt.Sprintf("Give 1 to %d entries for one message.", maxEntries)
	}
	for i := range in.Entries {
		e := &in.Entries[i]
		date, err := time.ParseInLocation(dayLayout, e.Day, now.Location())
		if err != nil {
			return "A day is such as 2026-11-24."
		}
		e.Project, e.Replace = strings.ToLower(clip(strings.TrimSpace(e.Project), 64)), in.Replace
		if err := checkEntry(e.Project, e.Hours, date, now); err != nil {
			return err.Error()
		}
	}
	call := recordedText(in.Entries, now)
	if slices.Contains(d.calls, call) {
		return "That is noted already."
	}
	d.calls = append(d.calls, call)
	d.entries = append(d.entries, in.Entries...)
	return "Noted: " + listEntries(in.Entries, now) + ". It is recorded once you have answered."
}

// report notes a period; what is wrong with it is for the model.
func (d *wanted) report(data []byte, now time.Time) (p period, wrong string) {
	var in struct{ First, Last string }
	if wrong := readArguments(data, &in); wrong != "" {
		return p, wrong
	}
	first, err1 := time.ParseInLocation(dayLayout, in.First, now.Location())
	last, err2 := time.ParseInLocation(dayLayout, in.Last, now.Location())
	if errors.Join(err1, err2) != nil {
		return p, "A day is such as 2026-11-24."
	}
	p = period{first, last, "from " + in.First + " to " + in.Last}
	if first.Equal(last) {
		p.name = dayName(first, now)
	}
	if !slices.Contains(d.periods, p) {
		if len(d.periods) == maxPeriods {
			return p, "That is too many periods."
		}
		d.periods = append(d.periods, p)
	}
	return p, ""
}

func (m *model) schedule(ctx context.Context, task Task, w Watcher) (Finding, error) {
	f := Finding{Agent: Schedule}
	remind := func(_ context.Context, data []byte) (string, error) {
		var in struct{ At, Text string }
		if wrong := readArguments(data, &in); wrong != "" {
			return wrong, nil
		}
		at, err := time.ParseInLocation("2006-01-02T15:04", in.At, task.Now.Location())
		if err != nil {
			return "A time is such as 2026-11-24T17:00.", nil
		}
		if _, err := checkWhen(at, task.Now); err != nil {
			return err.Error(), nil
		}
		r := Reminder{At: at, Text: clip(in.Text, maxReminderText)}
		if slices.Contains(f.Reminders, r) {
			return "That is set already.", nil
		}
		if len(f.Reminders) >= maxEntries {
			return "That is too many reminders.", nil
		}
		f.Reminders = append(f.Reminders, r)
		text := reminderText(r, task.Now)
		f.Done = append(f.Done, text)
		return text, nil
	}
	text, err := m.ask(ctx, `You set reminders for the sender with set_reminder; the sender is told by us what was set. Nobody else can be reminded. If the time is missing, ask for it.`,
		task, []tool{{
			name: "set_reminder", about: "Reminds the sender at a time.", call: remind,
			parameters: object(map[string]any{"at": kind("string", "such as 2026-11-24T17:00"), "text": kind("string", "what to remind of")}, "at"),
		}}, w)
	if len(f.Done) == 0 {
		f.Text = text
	}
	return f, err
}

// readArguments reads what the model gives a tool; the text is for the model.
func readArguments(data []byte, v any) string {
	if err := json.Unmarshal(data, v); err != nil {
		return "The arguments are not as declared; try again."
	}
	return ""
}

// object and kind build JSON schemas of tools.
func object(properties map[string]any, required ...string) map[string]any {
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func kind(of, about string) map[string]any { return map[string]any{"type": of, "description": about} }
