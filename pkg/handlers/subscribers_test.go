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
		end  time.Duration // of what is dropped; 0: all
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
		{name: "unsubscribed until its end", add: []Subscription{sub("a", time.Minute)}, drop: "a", end: time.Minute},
		{name: "unsubscribed and come again", add: []Subscription{sub("a", 2*time.Minute)}, drop: "a", end: time.Minute, want: "a+2m0s"},
		{name: "without an ID", add: []Subscription{{URL: "https://example.com"}}},
		{name: "without a URL", add: []Subscription{{ID: "a"}}},
		{name: "with the ID of a URL of the memo", add: []Subscription{sub("push-1", time.Minute)}},
		{name: "with a long ID", add: []Subscription{sub(strings.Repeat("x", 201), time.Minute)}},
		{name: "with a long URL", add: []Subscription{{ID: "a", URL: "https://" + strings.Repeat("x", 2000)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l subscribers
			for _, s := range tt.add {
				l.add(&s, noon)
			}
			gone := sub(tt.drop, tt.end)
			l.leave(&gone)
			if got := ids(l.at(noon.Add(tt.at))); got != tt.want {
				t.Errorf("they are %q, want %q", got, tt.want)
			}
		})
	}
}

// Beyond the bound nobody comes until somebody has gone; who is there stays,
// and may renew.
func TestSubscribersAreBounded(t *testing.T) {
	noon := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	var l subscribers
	add := func(n int, lasts time.Duration) bool {
		return l.add(&Subscription{ID: fmt.Sprint(n), URL: "https://example.com", Until: noon.Add(lasts)}, noon)
	}
	for n := range 3 * MaxSubscribers {
		if got, want := add(n, time.Minute), n < MaxSubscribers; got != want {
			t.Fatalf("subscriber %d is taken: %t, want %t", n, got, want)
		}
	}
	if !add(3, 2*time.Minute) || len(l) != MaxSubscribers || l[len(l)-1].ID != "3" {
		t.Errorf("one that is there cannot renew: %v", l)
	}
	l.remove("5")
	if !add(MaxSubscribers, time.Minute) {
		t.Error("the place of one that has left is not free")
	}
	if left := l.at(noon.Add(time.Minute)); len(left) != 1 || left[0].ID != "3" {
		t.Errorf("after a minute %v are left", left)
	}
}
