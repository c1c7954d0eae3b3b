package agents

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// maxEntries bounds what one message records.
	maxEntries = 10
	// maxDayHours is how long a day is.
	maxDayHours = 24
	// maxAge is how far back hours may lie.
	maxAge = 366 * 24 * time.Hour
)

// ErrFullDay is wrapped where a day would have more than 24 hours.
var ErrFullDay = errors.New("the day would have more than 24 hours")

// complaint is what is wrong with a message: a sentence for its sender.
type complaint string

func (c complaint) Error() string { return string(c) }

func complain(format string, args ...any) error { return complaint(fmt.Sprintf(format, args...)) }

var (
	recordPattern  = regexp.MustCompile(`(?i)\b(log|add|book|record|enter|put|track|worked|work|did|spent|set|correct|change|replace)\b`)
	replacePattern = regexp.MustCompile(`(?i)\b(set|correct|change|replace)\b`)
	// amountPattern finds hours: 8h, 7.5 hours, 7,5h, 1h30, 90 min.
	amountPattern = regexp.MustCompile(`(?i)(^|[^\pL\pN.,:-])(\d{1,4}(?:[.,]\d{1,2})?)\s*(?:(h|hrs?|hours?)(?:(\d{1,2})m?)?|(m|mins?|minutes?))(?:$|[^\pL\pN])`)
	// projectPattern finds what the hours were for, behind them.
	projectPattern = regexp.MustCompile(`(?i)\b(?:on|for|to|at|in)\s+(?:the\s+)?(?:project\s+)?(?:"([^"\n]{1,64})"|([\pL\pN][\pL\pN_./-]{0,63}))`)
	// beforePattern finds it right before them, as in "apollo: 8h".
	beforePattern = regexp.MustCompile(`(?i)([\pL\pN][\pL\pN_./-]{0,63})\s*[:=]?\s*$`)
)

// notProjects are words that stand where a project would.
var notProjects = map[string]bool{
	"the": true, "a": true, "my": true, "me": true, "i": true, "and": true, "of": true, "work": true, "hours": true, "project": true,
	"log": true, "add": true, "book": true, "record": true, "enter": true, "put": true, "track": true, "worked": true,
	"did": true, "spent": true, "set": true, "correct": true, "change": true, "replace": true, "please": true,
	"last": true, "this": true, "week": true, "month": true, "today": true, "yesterday": true, "tomorrow": true, "plus": true, "then": true, "also": true,
	"on": true, "for": true, "to": true, "at": true, "in": true, "by": true, "day": true, "days": true, "it": true, "that": true, "have": true, "another": true,
}

// records reports whether text is about hours that are to be recorded.
func records(text string) bool {
	return recordPattern.MatchString(text) && amountPattern.MatchString(text)
}

// amount is some hours that a text names, and where.
type amount struct {
	hours      float64
	start, end int
}

func findAmounts(text string) []amount {
	var list []amount
	for at := 0; at < len(text); {
		m := amountPattern.FindStringSubmatchIndex(text[at:])
		if m == nil {
			break
		}
		sub := func(n int) string {
			if m[2*n] < 0 {
				return ""
			}
			return text[at+m[2*n] : at+m[2*n+1]]
		}
		hours, _ := strconv.ParseFloat(strings.Replace(sub(2), ",", ".", 1), 64) // the pattern holds it to a number
		if sub(5) != "" {
			hours /= 60
		} else if extra := sub(4); extra != "" {
			minutes, _ := strconv.Atoi(extra)
			hours += float64(minutes) / 60
		}
		last := 3
		for _, n := range []int{4, 5} {
			if m[2*n] >= 0 {
				last = n
			}
		}
		end := at + m[2*last+1]
		list = append(list, amount{math.Round(hours*100) / 100, at + m[2*2], end})
		at = end
	}
	return list
}

// parseEntries reads the hours that text wants recorded. The error is for
// the person to read.
func parseEntries(text string, now time.Time) ([]Entry, error) {
	amounts := findAmounts(text)
	if len(amounts) == 0 {
		return nil, complain(`I could not read how many hours. Say for example "log 8h on apollo yesterday".`)
	}
	if len(amounts) > maxEntries {
		return nil, complain("That is %d entries; I take %d in one message.", len(amounts), maxEntries)
	}
	days := findDays(text, now)
	entries := make([]Entry, 0, len(amounts))
	for i, a := range amounts {
		before, after := 0, len(text)
		if i > 0 {
			before = amounts[i-1].end
		}
		if i+1 < len(amounts) {
			after = amounts[i+1].start
		}
		project := projectOf(text[before:a.start], text[a.end:after])
		date := dateOf(text, days, before, a, after, now)
		if err := checkEntry(project, a.hours, date, now); err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Day: date.Format(dayLayout), Project: project, Hours: a.hours})
	}
	return entries, nil
}

func checkEntry(project string, hours float64, date, now time.Time) error {
	switch {
	case project == "":
		return complain(`On which project were the %s? Say for example "log %sh on apollo".`, hoursText(hours), strings.TrimSuffix(hoursText(hours), " h"))
	case hours <= 0 || hours > maxDayHours:
		return complain("%s is nothing that I can record; a day has 24 hours.", hoursText(hours))
	case date.After(now):
		return complain("%s is still to come; I record hours once they are worked.", date.Format(dayLayout))
	case now.Sub(date) > maxAge:
		return complain("%s is more than a year ago; that is too long.", date.Format(dayLayout))
	}
	return nil
}

// projectOf returns the project of an amount, from the text behind it or
// else right before it; "" is none.
func projectOf(before, after string) string {
	for _, m := range projectPattern.FindAllStringSubmatch(after, -1) {
		if m[1] != "" {
			return strings.ToLower(strings.TrimSpace(m[1]))
		}
		if word := strings.ToLower(strings.TrimRight(m[2], "./-")); isProject(word) {
			return word
		}
	}
	if m := beforePattern.FindStringSubmatch(before); m != nil {
		if word := strings.ToLower(strings.TrimRight(m[1], "./-")); isProject(word) {
			return word
		}
	}
	return ""
}

func isProject(word string) bool {
	if _, weekday := weekdays[word]; weekday || notProjects[word] {
		return false
	}
	if _, err := time.Parse(dayLayout, word); err == nil {
		return false
	}
	return strings.Trim(word, "0123456789") != ""
}

// dateOf returns the day of the amount a of text, whose part of it lies
// between the offsets before and after: a day in the same clause behind it,
// else one in front of it. A single day in a text counts for all its amounts.
func dateOf(text string, days []day, before int, a amount, after int, now time.Time) time.Time {
	if len(days) == 1 {
		return days[0].date
	}
	for _, d := range days {
		if d.start >= a.end && d.end <= after && !strings.ContainsAny(text[a.end:d.start], ",;\n") {
			return d.date
		}
	}
	for _, d := range days {
		if d.start >= before && d.end <= a.start {
			return d.date
		}
	}
	return midnight(now)
}
