package activities_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/internal/testenv"
	"github.com/runcast/runcast/pkg/conversation"
)

// A day owes hours if it is a workday where the person is.
func TestDueHours(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: testenv.Redis(t).Addr})
	defer c.Close()
	store := conversation.New(c, conversation.Options{Prefix: testenv.Prefix(t)})
	fridayNight := time.Date(2026, 11, 27, 20, 0, 0, 0, time.UTC) // Saturday in Sydney
	for _, tt := range []struct {
		name     string
		workdays []time.Weekday
		zone     string
		want     activities.Due
	}{
		{"Friday", nil, "", activities.Due{Day: "2026-11-27", Missing: 8}},
		{"Saturday", nil, "Australia/Sydney", activities.Due{Day: "2026-11-28"}},
		{"Friday off", []time.Weekday{time.Sunday, time.Saturday}, "", activities.Due{Day: "2026-11-27"}},
		{"Saturday at work", []time.Weekday{time.Sunday, time.Saturday}, "Australia/Sydney", activities.Due{Day: "2026-11-28", Missing: 8}},
		{"no day at all", []time.Weekday{}, "", activities.Due{Day: "2026-11-27"}},
	} {
		m := &activities.Messaging{Store: store, Workdays: tt.workdays}
		got, err := m.DueHours(t.Context(), activities.DueInput{Who: "+61491570156", Zone: tt.zone, At: fridayNight, Owed: 8})
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}
