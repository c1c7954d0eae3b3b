package handlers

import (
	"fmt"
	"testing"
	"time"
)

// Who finds no place among the recipients, or a run that has told as much as
// it may, is not served; who is there is renewed, and gets no more for it.
func TestRecipientsAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name         string
		there, spent int
	}{
		{name: "no place", there: maxRecipients},
		{name: "no deliveries", there: 1, spent: maxDeliveries},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h Handlers
			d := &h.deliveries
			d.h, d.spent = &h, tt.spent
			now := time.Now()
			sub := func(id string) Subscription {
				s := Subscription{ID: id, URL: "https://example.com/"}
				if !h.subscribers.add(&s, now) {
					t.Fatalf("%s is no subscriber", id)
				}
				return s
			}
			// As those whose last push is under way still.
			for n := range tt.there {
				d.to = append(d.to, &recipient{Subscription: Subscription{ID: fmt.Sprint("old ", n)}, last: d.exhausted()})
			}
			// Nothing is served, so no workflow is needed.
			for n := range 3 * MaxSubscribers {
				d.subscribed(nil, sub(fmt.Sprint("new ", n)))
			}
			if len(d.to) != tt.there || len(h.subscribers) != 0 {
				t.Errorf("there are %d recipients and %d subscribers, want %d and 0", len(d.to), len(h.subscribers), tt.there)
			}
			d.subscribed(nil, sub("old 0"))
			if r := d.to[0]; r.URL == "" || len(h.subscribers) != 1 || r.last != d.exhausted() {
				t.Errorf("who has renewed is %+v", r)
			}
		})
	}
}
