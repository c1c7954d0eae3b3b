package agents

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// dayLayout is how days are written.
const dayLayout = time.DateOnly

var weekdays = map[string]time.Weekday{
	"sunday": time.Sunday, "monday": time.Monday, "tuesday": time.Tuesday, "wednesday": time.Wednesday,
	"thursday": time.Thursday, "friday": time.Friday, "saturday": time.Saturday,
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

const weekdayWords = `(?:(?:sun|mon|tues|wednes|thurs|fri|satur)day|sun|mon|tue|wed|thu|fri|sat)`

// dayPattern finds a day that has been, or is.
var dayPattern = regexp.MustCompile(`(?i)\b(?:(the day before yesterday|day before yesterday)|(yesterday)|(today)|(\d{1,3}) days? ago|(last )?(` + weekdayWords + `)|(\d{4}-\d{2}-\d{2}))\b`)

// day is a day that a text names, and where.
type day struct {
	date       time.Time
	start, end int
}

// findDays returns the days that text names, in order. A weekday is the last
// one, or today.
func findDays(text string, now time.Time) []day {
	var days []day
	for _, m := range dayPattern.FindAllStringSubmatchIndex(text, -1) {
		group := func(n int) string {
			if m[2*n] < 0 {
				return ""
			}
			return strings.ToLower(text[m[2*n]:m[2*n+1]])
		}
		d := day{date: midnight(now), start: m[0], end: m[1]}
		switch {
		case group(1) != "":
			d.date = d.date.AddDate(0, 0, -2)
		case group(2) != "":
			d.date = d.date.AddDate(0, 0, -1)
		case group(3) != "":
		case group(4) != "":
			n, _ := strconv.Atoi(group(4)) // at most three digits
			d.date = d.date.AddDate(0, 0, -n)
		case group(6) != "":
			back := (int(now.Weekday()) - int(weekdays[group(6)]) + 7) % 7
			if back == 0 && group(5) != "" {
				back = 7
			}
			d.date = d.date.AddDate(0, 0, -back)
		default:
			date, err := time.ParseInLocation(dayLayout, group(7), now.Location())
			if err != nil {
				continue // such as 2026-13-40, which is no day
			}
			d.date = date
		}
		days = append(days, d)
	}
	return days
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

// period is a span of days, both included, and what it is called.
type period struct {
	first, last time.Time
	name        string
}

var periodPattern = regexp.MustCompile(`(?i)\b(this|last|past|previous|current) (week|month)\b`)

// findPeriod returns the span that text asks about: this week, unless it
// says something else.
func findPeriod(text string, now time.Time) period {
	today := midnight(now)
	monday := today.AddDate(0, 0, -(int(today.Weekday())+6)%7)
	if m := periodPattern.FindStringSubmatch(text); m != nil {
		this := strings.EqualFold(m[1], "this") || strings.EqualFold(m[1], "current")
		first := time.Date(today.Year(), today.Month(), 1, 0, 0, 0, 0, today.Location())
		switch {
		case strings.EqualFold(m[2], "month") && this:
			return period{first, first.AddDate(0, 1, -1), "this month"}
		case strings.EqualFold(m[2], "month"):
			return period{first.AddDate(0, -1, 0), first.AddDate(0, 0, -1), "last month"}
		case !this:
			return period{monday.AddDate(0, 0, -7), monday.AddDate(0, 0, -1), "last week"}
		}
	} else if days := findDays(text, now); len(days) > 0 {
		d := days[0].date
		return period{d, d, dayName(d, now)}
	}
	return period{monday, monday.AddDate(0, 0, 6), "this week"}
}

// dayName says a day as a person would.
func dayName(d, now time.Time) string {
	switch today := midnight(now); {
	case d.Equal(today):
		return "today"
	case d.Equal(today.AddDate(0, 0, -1)):
		return "yesterday"
	case d.Equal(today.AddDate(0, 0, 1)):
		return "tomorrow"
	}
	return d.Format("Mon 2 Jan 2006")
}

// hoursText says hours, such as "7.5 h".
func hoursText(h float64) string {
	return strconv.FormatFloat(math.Round(h*100)/100, 'f', -1, 64) + " h"
}
