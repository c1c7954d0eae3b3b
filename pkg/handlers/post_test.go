package handlers

import "testing"

// Whatever is told apart has an ID of its own: one dead letter would replace
// the other.
func TestMessageID(t *testing.T) {
	base := Delivery{
		Subscription: Subscription{ID: "a", URL: "https://example.com/", Push: true},
		State:        State{RunID: "run", Version: 7},
	}
	ids := map[string]string{base.MessageID(): "the base"}
	for name, change := range map[string]func(*Delivery){
		"another subscriber": func(d *Delivery) { d.Subscription.ID = "b" },
		"another URL":        func(d *Delivery) { d.Subscription.URL += "other" },
		"a longer ID":        func(d *Delivery) { d.Subscription.ID, d.Subscription.URL = "a\x00https:", "//example.com/" },
		"a notification":     func(d *Delivery) { d.Subscription.Push = false },
		"another version":    func(d *Delivery) { d.State.Version++ },
		"another run":        func(d *Delivery) { d.State.RunID = "other" },
		"the end":            func(d *Delivery) { d.State.Returned = "completed" },
		"the last":           func(d *Delivery) { d.Last = true },
	} {
		d := base
		change(&d)
		if other, ok := ids[d.MessageID()]; ok {
			t.Errorf("%s has the ID of %s", name, other)
		}
		ids[d.MessageID()] = name
	}
	again := base
	again.Attempts, again.Bury, again.Subscription.Transient = 5, "why", true
	if again.MessageID() != base.MessageID() {
		t.Error("another attempt has another ID")
	}
}
