package handlers

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestSubscribers(t *testing.T) {
	noon := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	sub := func(id string, until time.Duration) Subscription {
		s := Subscription{ID: id, URL: "https://example.com/" + id}
		if until != 0 {
			s.Until = noon.Add(until)
		}
		return s
	}
	ids := func(l []Subscription) string {
		var ids []string
		for _, s := range l {
			ids = append(ids, fmt.Sprintf("%s+%v", s.ID, s.Until.Sub(noon)))
		}
		return strings.Join(ids, " ")
	}
	for _, tt := range []struct {
		name string
		add  []Subscription
		drop string
		at   time.Duration
		want string
	}{
		{name: "in the order in which they came", add: []Subscription{sub("b", time.Minute), sub("a", time.Minute)}, want: "b+1m0s a+1m0s"},
		{name: "without an end", add: []Subscription{sub("a", 0)}, want: "a+10m0s"},
		{name: "for too long", add: []Subscription{sub("a", time.Hour)}, want: "a+10m0s"},
		{name: "over", add: []Subscription{sub("a", -time.Second)}},
		{name: "renewed", add: []Subscription{sub("a", time.Minute), sub("b", time.Minute), sub("a", 2*time.Minute)}, want: "b+1m0s a+2m0s"},
		{name: "expired", add: []Subscription{sub("a", time.Minute), sub("b", 2*time.Minute)}, at: time.Minute, want: "b+2m0s"},
		{name: "unsubscribed", add: []Subscription{sub("a", time.Minute), sub("b", time.Minute)}, drop: "a", want: "b+1m0s"},
		{name: "without an ID", add: []Subscription{{URL: "https://example.com"}}},
		{name: "without a URL", add: []Subscription{{ID: "a"}}},
		{name: "with a long ID", add: []Subscription{sub(strings.Repeat("x", 201), time.Minute)}},
		{name: "with a long URL", add: []Subscription{{ID: "a", URL: "https://" + strings.Repeat("x", 2000)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l subscribers
			for _, s := range tt.add {
				l.add(&s, noon)
			}
			l.remove(tt.drop)
			if got := ids(l.at(noon.Add(tt.at))); got != tt.want {
				t.Errorf("they are %q, want %q", got, tt.want)
			}
		})
	}
}

// Beyond the bound the one goes that would go first anyway.
func TestSubscribersAreBounded(t *testing.T) {
	noon := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	var l subscribers
	for n := range 3 * MaxSubscribers {
		l.add(&Subscription{ID: fmt.Sprint(n), URL: "https://example.com", Until: noon.Add(time.Duration(1+n%7) * time.Minute)}, noon)
		if len(l) > MaxSubscribers {
			t.Fatalf("there are %d", len(l))
		}
	}
	if l[len(l)-1].ID != fmt.Sprint(3*MaxSubscribers-1) {
		t.Errorf("the newest is not there, but %v", l[len(l)-1])
	}
	if first := l.at(noon.Add(time.Minute)); len(first) != MaxSubscribers {
		t.Errorf("%d are left after a minute: those that go first have not gone first", len(first))
	}
}
