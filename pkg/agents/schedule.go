package agents

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxAhead is how far ahead a reminder may lie, and maxReminderText how long
// its text may be, in characters.
const (
	maxAhead        = 31 * 24 * time.Hour
	maxReminderText = 300
)

var (
	remindPattern   = regexp.MustCompile(`(?i)\bremind(ers?|ed)?\b|\bdon'?t let me forget\b`)
	remindMePattern = regexp.MustCompile(`(?i)\bremind\s+(me|us)\b|\bremind(er)?\b\s*(for me)?\s*(at|in|on|tomorrow|today|to)\b|\bset\s+(me\s+)?an?\s+(reminder|alarm)\b|\bdon'?t let me forget\b`)
	// inPattern finds a time from now on: in 20 minutes, in an hour.
	inPattern = regexp.MustCompile(`(?i)\bin\s+(?:(\d{1,4})|an?|half an)\s*(minutes?|mins?|m|hours?|hrs?|h|days?|d)\b`)
	// atPattern finds a time of day: at 5pm, at 17:30, at noon.
	atPattern = regexp.MustCompile(`(?i)\b(?:at|by)\s+(?:(noon|midday|midnight)|(\d{1,2})(?::|\.)?(\d{2})?\s*(am|pm|a\.m\.?|p\.m\.?|o'?clock)?)(?:$|[^\pL\pN])`)
	// aheadPattern finds a day that is, or is to come.
	aheadPattern = regexp.MustCompile(`(?i)\b(today|tonight|tomorrow|(?:on |next )?(` + weekdayWords + `)|on (\d{4}-\d{2}-\d{2}))\b`)
	// reminderEndPattern finds where the part of a message that is about a
	// reminder ends: with its sentence, or where it asks for something else.
	reminderEndPattern = regexp.MustCompile(`(?i)[.;!?]+(?:\s|$)|\n|(?:,|\band|\bthen)\s+(?:(?:and|also|then|please)\s+)*(?:log|add|book|record|enter|track|how|what|show)\b`)
	aboutPattern       = regexp.MustCompile(`(?i)\b(?:to|about|that)\s+(.+)$`)
)

// splitReminder cuts a message into the part that is about a reminder, "" if
// there is none, and the rest: "remind me in 2 hours" is about no hours that
// were worked, and "log 8h on monday" about no time to remind of.
func splitReminder(text string) (reminder, rest string) {
	loc := remindPattern.FindStringIndex(text)
	if loc == nil {
		return "", text
	}
	end := len(text)
	for _, m := range reminderEndPattern.FindAllStringIndex(text[loc[1]:], -1) {
		at := loc[1] + m[0]
		if said := strings.ToLower(text[:at]); text[at] == '.' && (strings.HasSuffix(said, "a.m") || strings.HasSuffix(said, "p.m")) {
			continue
		}
		end = at
		break
	}
	return text[loc[0]:end], text[:loc[0]] + "\n" + text[end:]
}

// schedule reads when the sender wants to be reminded, and of what.
func schedule(_ context.Context, task Task, w Watcher) (Finding, error) {
	f := Finding{Agent: Schedule}
	if !remindMePattern.MatchString(task.Text) {
		w.Thought("The message asks to remind somebody else.", "This asks to remind somebody else than the sender.")
		f.Text = "I can set a reminder for you, and only remind you yourself. Say for example \"remind me at 5pm\"."
		say(w, f.Text)
		return f, nil
	}
	clause, _ := splitReminder(task.Text)
	at, err := parseWhen(clause, task.Now)
	if errors.Is(err, errNoTime) {
		// The time may stand before it: at 5pm remind me.
		at, err = parseWhen(task.Text, task.Now)
	}
	if err != nil {
		w.Thought("The time of the reminder is not clear.", err.Error())
		f.Text = err.Error()
		say(w, f.Text)
		return f, nil
	}
	f.Reminders = []Reminder{{At: at, Text: aboutOf(clause)}}
	f.Text = reminderText(f.Reminders[0], task.Now)
	w.Thought("Setting a reminder.", f.Text)
	say(w, f.Text)
	return f, nil
}

// reminderText says that the reminder is set.
func reminderText(r Reminder, now time.Time) string {
	text := fmt.Sprintf("I will remind you %s at %s", dayName(midnight(r.At), now), r.At.Format("15:04"))
	if r.Text != "" {
		text += ": " + r.Text
	}
	return text + "."
}

// aboutOf returns what the reminder is about; "" is nothing in particular.
func aboutOf(text string) string {
	rest := text
	if loc := remindPattern.FindStringIndex(text); loc != nil {
		rest = text[loc[1]:]
	}
	m := aboutPattern.FindStringSubmatch(rest)
	if m == nil {
		return ""
	}
	about := m[1]
	for _, p := range []*regexp.Regexp{inPattern, atPattern, aheadPattern} {
		about = p.ReplaceAllString(about, " ")
	}
	return clip(strings.Trim(strings.Join(strings.Fields(about), " "), " .,;!?"), maxReminderText)
}

// errNoTime is the complaint that no time is named.
var errNoTime = complain(`When shall I remind you? Say for example "remind me at 5pm" or "remind me in 2 hours".`)

// parseWhen reads the time of a reminder, which lies after now. The error is
// for the person to read.
func parseWhen(text string, now time.Time) (time.Time, error) {
	if m := inPattern.FindStringSubmatch(text); m != nil {
		return checkWhen(now.Add(spanOf(m)), now)
	}
	clock := atPattern.FindStringSubmatch(text)
	date, named := dateAhead(text, now)
	if clock == nil && !named {
		return time.Time{}, errNoTime
	}
	hour, minute := 9, 0 // a day without a time
	if clock != nil {
		var err error
		if hour, minute, err = clockOf(clock); err != nil {
			return time.Time{}, err
		}
	}
	at := time.Date(date.Year(), date.Month(), date.Day(), hour, minute, 0, 0, now.Location())
	if !at.After(now) && !named {
		at = time.Date(date.Year(), date.Month(), date.Day()+1, hour, minute, 0, 0, now.Location())
	}
	return checkWhen(at, now)
}

func checkWhen(at, now time.Time) (time.Time, error) {
	switch {
	case !at.After(now):
		return time.Time{}, complain("%s at %s has passed already.", dayName(midnight(at), now), at.Format("15:04"))
	case at.Sub(now) > maxAhead:
		return time.Time{}, complain("That is too far ahead; I remember reminders for 31 days.")
	}
	return at, nil
}

// spanOf reads a match of inPattern.
func spanOf(m []string) time.Duration {
	n := 1.0
	if m[1] != "" {
		whole, _ := strconv.Atoi(m[1]) // at most four digits
		n = float64(whole)
	} else if strings.Contains(strings.ToLower(m[0]), "half") {
		n = 0.5
	}
	unit := time.Minute
	switch strings.ToLower(m[2])[0] {
	case 'h':
		unit = time.Hour
	case 'd':
		unit = 24 * time.Hour
	}
	return time.Duration(n * float64(unit))
}

// clockOf reads a match of atPattern.
func clockOf(m []string) (hour, minute int, err error) {
	switch strings.ToLower(m[1]) {
	case "noon", "midday":
		return 12, 0, nil
	case "midnight":
		return 0, 0, nil
	}
	hour, _ = strconv.Atoi(m[2]) // two digits
	minute, _ = strconv.Atoi("0" + m[3])
	half := strings.ToLower(m[4])
	twelve := strings.HasPrefix(half, "a") || strings.HasPrefix(half, "p")
	if twelve && (hour < 1 || hour > 12) || hour > 23 || minute > 59 {
		return 0, 0, complain("%q is no time of day.", strings.TrimSpace(m[0]))
	}
	if twelve {
		hour %= 12
	}
	if strings.HasPrefix(half, "p") {
		hour += 12
	}
	return hour, minute, nil
}

// dateAhead returns the day that text names, and whether it names one; else
// today.
func dateAhead(text string, now time.Time) (date time.Time, named bool) {
	today := midnight(now)
	m := aheadPattern.FindStringSubmatch(text)
	if m == nil {
		return today, false
	}
	switch word := strings.ToLower(m[1]); {
	case word == "today" || word == "tonight":
		return today, true
	case word == "tomorrow":
		return today.AddDate(0, 0, 1), true
	case m[2] != "":
		ahead := (int(weekdays[strings.ToLower(m[2])]) - int(now.Weekday()) + 7) % 7
		if ahead == 0 {
			ahead = 7
		}
		return today.AddDate(0, 0, ahead), true
	}
	if d, err := time.ParseInLocation(dayLayout, m[3], now.Location()); err == nil {
		return d, true
	}
	return today, false
}

// clip returns text, cut to at most n characters.
func clip(text string, n int) string {
	runes := 0
	for i := range text {
		if runes == n {
			return text[:i] + "…"
		}
		runes++
	}
	return text
}
