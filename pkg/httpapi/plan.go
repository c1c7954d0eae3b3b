package httpapi

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
)

// plan says when daily reminders are made: at these times of these days, as
// the clocks of one time zone show them.
type plan struct {
	// TimeZone is an IANA name; "" is UTC.
	TimeZone string `json:"time_zone"`
	// Times are such as "17:00".
	Times []string `json:"times"`
	// Days are of mon tue wed thu fri sat sun; nil is Monday to Friday.
	Days []string `json:"days"`
}

// maxTimes bounds how often a day people are reminded.
const maxTimes = 10

// days are the days of a week, as Temporal counts them.
var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// spec returns the plan as Temporal takes it. Its error names the member at
// fault.
func (p plan) spec() (client.ScheduleSpec, error) {
	spec := client.ScheduleSpec{TimeZoneName: cmp.Or(p.TimeZone, "UTC")}
	if _, err := zone(p.TimeZone); err != nil {
		return spec, err
	}
	if len(p.Times) == 0 || len(p.Times) > maxTimes {
		return spec, fmt.Errorf(`"times" has %d entries; 1 to %d such as "17:00" are allowed`, len(p.Times), maxTimes)
	}
	week, err := p.week()
	if err != nil {
		return spec, err
	}
	for _, text := range p.Times {
		at, err := time.Parse("15:04", text)
		if err != nil {
			return spec, errors.New(`"times" has an entry that is no time such as "17:00"`)
		}
		spec.Calendars = append(spec.Calendars, client.ScheduleCalendarSpec{
			Hour:      []client.ScheduleRange{{Start: at.Hour()}},
			Minute:    []client.ScheduleRange{{Start: at.Minute()}},
			DayOfWeek: week,
		})
	}
	return spec, nil
}

// week returns the days as Temporal takes them.
func (p plan) week() ([]client.ScheduleRange, error) {
	if p.Days == nil {
		return []client.ScheduleRange{{Start: 1, End: 5}}, nil
	}
	var week []client.ScheduleRange
	for _, day := range p.Days {
		n := slices.Index(days, day)
		if n < 0 {
			return nil, errors.New(`"days" has an entry that is none of mon, tue, wed, thu, fri, sat and sun`)
		}
		week = append(week, client.ScheduleRange{Start: n, End: n})
	}
	if len(week) == 0 || len(week) > len(days) {
		return nil, errors.New(`"days" has no entry, or too many; leave it out for Monday to Friday`)
	}
	return week, nil
}

// planOf reads a plan back from what Temporal holds.
func planOf(spec *client.ScheduleSpec) plan {
	p := plan{Times: []string{}, Days: []string{}}
	if spec == nil {
		return p
	}
	p.TimeZone = spec.TimeZoneName
	for _, c := range spec.Calendars {
		for _, hour := range each(c.Hour) {
			for _, minute := range each(c.Minute) {
				p.Times = append(p.Times, fmt.Sprintf("%02d:%02d", hour, minute))
			}
		}
		for _, n := range each(c.DayOfWeek) {
			if n < len(days) && !slices.Contains(p.Days, days[n]) {
				p.Days = append(p.Days, days[n])
			}
		}
	}
	slices.Sort(p.Times)
	p.Times = slices.Compact(p.Times)
	return p
}

// each returns the values of ranges.
func each(ranges []client.ScheduleRange) []int {
	var values []int
	for _, r := range ranges {
		for n := r.Start; n <= max(r.Start, r.End) && len(values) < 60; n += max(r.Step, 1) {
			values = append(values, n)
		}
	}
	return values
}
