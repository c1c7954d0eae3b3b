package agents

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// timesheet records the sender's hours and reports them.
type timesheet struct{ hours Hours }

var reportPattern = regexp.MustCompile(`(?i)\b(how (many|much) (hours?|time)|(show|list|report|sum|total|check)\b.*\b(hours?|time|timesheets?|week|month|day)|what (have|did) i|hours (have|did) i|my (hours|timesheet)|logged)\b`)

// strangerPattern finds what looks like another person: a number, a mail
// address.
var strangerPattern = regexp.MustCompile(`\+?\d[\d ()-]{6,}\d|[^\s@]+@[^\s@]+\.[^\s@]+`)

func reports(text string) bool { return reportPattern.MatchString(text) }

func (t *timesheet) run(ctx context.Context, task Task, w Watcher) (Finding, error) {
	f := Finding{Agent: Timesheet}
	var parts []string
	whole := task.Text
	_, task.Text = splitReminder(whole)
	if records(task.Text) {
		text, done, err := t.record(ctx, task, w)
		if err != nil {
			return Finding{}, err
		}
		f.Recorded = done
		parts = append(parts, text)
		if loc := reportPattern.FindStringIndex(task.Text); loc != nil {
			task.Text = task.Text[loc[0]:] // a project before it is not what is asked about
		}
	}
	if reports(task.Text) || len(parts) == 0 {
		text, err := t.report(ctx, task, w)
		if err != nil {
			return Finding{}, err
		}
		parts = append(parts, text)
	}
	if len(withoutDates(strangerPattern.FindAllString(whole, -1))) > 0 {
		parts = append(parts, "I can only see and change your own hours.")
	}
	f.Text = strings.Join(parts, "\n")
	say(w, f.Text)
	return f, nil
}

// withoutDates leaves out what only looks like a number to call.
func withoutDates(found []string) []string {
	var left []string
	for _, s := range found {
		if _, err := time.Parse(dayLayout, s); err != nil {
			left = append(left, s)
		}
	}
	return left
}

// record returns what to tell the sender, and whether hours were recorded.
func (t *timesheet) record(ctx context.Context, task Task, w Watcher) (string, bool, error) {
	entries, err := parseEntries(task.Text, task.Now)
	if err != nil {
		w.Thought("The hours cannot be recorded as they stand.", err.Error())
		return err.Error(), false, nil
	}
	if replacePattern.MatchString(task.Text) {
		for i := range entries {
			entries[i].Replace = true
		}
	}
	return recordEntries(ctx, t.hours, task, entries, w)
}

// recordEntries records what a message wants recorded, all at once, and says
// what is recorded for it then, and whether anything is.
func recordEntries(ctx context.Context, h Hours, task Task, entries []Entry, w Watcher) (string, bool, error) {
	w.Thought(fmt.Sprintf("Recording hours; entries: %d.", len(entries)), "Recording "+listEntries(entries, task.Now)+".")
	recorded, err := h.Record(ctx, task.Sender, task.Key, entries)
	if errors.Is(err, ErrFullDay) {
		return "That would be more than 24 hours in one day, so nothing was recorded.", false, nil
	} else if err != nil {
		return "", false, fmt.Errorf("record hours: %w", err)
	}
	return recordedText(recorded, task.Now), true, nil
}

// recordedText says what was recorded, what was added first.
func recordedText(entries []Entry, now time.Time) string {
	var added, set []Entry
	for _, e := range entries {
		if e.Replace {
			set = append(set, e)
		} else {
			added = append(added, e)
		}
	}
	var parts []string
	if len(added) > 0 {
		parts = append(parts, "Recorded "+listEntries(added, now)+".")
	}
	if len(set) > 0 {
		parts = append(parts, "Set "+listEntries(set, now)+".")
	}
	return strings.Join(parts, " ")
}

func listEntries(entries []Entry, now time.Time) string {
	said := make([]string, len(entries))
	for i, e := range entries {
		day := e.Day
		if date, err := time.ParseInLocation(dayLayout, e.Day, now.Location()); err == nil {
			day = dayName(date, now)
		}
		said[i] = fmt.Sprintf("%s on %s %s", hoursText(e.Hours), e.Project, day)
	}
	return strings.Join(said, ", ")
}

func (t *timesheet) report(ctx context.Context, task Task, w Watcher) (string, error) {
	p := findPeriod(task.Text, task.Now)
	project := ""
	if m := projectPattern.FindStringSubmatch(periodPattern.ReplaceAllString(task.Text, "")); m != nil {
		if word := strings.ToLower(m[1] + m[2]); isProject(word) {
			project = word
		}
	}
	return reportHours(ctx, t.hours, task, p, project, w)
}

// reportHours says the sender's hours of a period; of one project, if the
// sender has any on it.
func reportHours(ctx context.Context, h Hours, task Task, p period, project string, w Watcher) (string, error) {
	w.Thought("Looking up the hours of "+p.name+".", "Looking up the hours of "+p.name+".")
	entries, err := h.Between(ctx, task.Sender, p.first.Format(dayLayout), p.last.Format(dayLayout))
	if err != nil {
		return "", fmt.Errorf("read hours: %w", err)
	}
	total, byProject, order := 0.0, map[string]float64{}, []string{}
	for _, e := range entries {
		if _, seen := byProject[e.Project]; !seen {
			order = append(order, e.Project)
		}
		byProject[e.Project] += e.Hours
		total += e.Hours
	}
	if of, ok := byProject[project]; ok {
		return fmt.Sprintf("You have %s on %s %s.", hoursText(of), project, p.name), nil
	}
	if total == 0 {
		return "You have no hours recorded " + p.name + ".", nil
	}
	parts := make([]string, len(order))
	for i, name := range order {
		parts[i] = fmt.Sprintf("%s %s", name, hoursText(byProject[name]))
	}
	return fmt.Sprintf("You have %s %s: %s.", hoursText(total), p.name, strings.Join(parts, ", ")), nil
}

// say gives a text to the watcher word by word.
func say(w Watcher, text string) {
	for _, piece := range strings.SplitAfter(text, " ") {
		if piece != "" {
			w.Output(piece)
		}
	}
}
