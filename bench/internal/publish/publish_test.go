package publish

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/runcast/runcast/bench/internal/machinetest"
	"github.com/runcast/runcast/pkg/progress"
)

// A writer that is late writes what was due meanwhile with the times when it
// was due: what viewers had to wait is not hidden.
func TestEventsCarryTheTimeWhenTheyWereDue(t *testing.T) {
	addr := machinetest.Redis(t)
	p, err := Open(t.Context(), addr, []string{"late-" + t.Name()}, 5)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const step, behind = 10 * time.Millisecond, 95 * time.Millisecond
	begin := time.Now().Add(-behind)
	var s Stretch
	if err := p.write(t.Context(), &s, 0, 1, 12, step, begin); err != nil {
		t.Fatal(err)
	}
	if s.Latest < behind || s.Latest > behind+5*time.Second || s.Appends < 1 || s.Appends > 4 {
		t.Errorf("%+v", s)
	}
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	entries, err := rdb.XRange(t.Context(), "workflow:{late-"+t.Name()+"}:events", "-", "+").Result()
	if err != nil || len(entries) != 12 {
		t.Fatalf("%d events, %v", len(entries), err)
	}
	for i, entry := range entries {
		var e progress.Event
		if err := json.Unmarshal([]byte(entry.Values["e"].(string)), &e); err != nil {
			t.Fatal(err)
		}
		if want := begin.Add(time.Duration(i) * step); want.Sub(e.Time).Abs() > time.Millisecond {
			t.Errorf("event %d carries %s, was due at %s", i+1, e.Time, want)
		}
	}
	if last := p.Positions(); len(last) == 0 || len(last) > 5 || last[len(last)-1].Seq != 12 {
		t.Errorf("positions %v", last)
	}
}

func TestSteadyIsEven(t *testing.T) {
	p, err := Open(t.Context(), machinetest.Redis(t), []string{"even-1", "even-2", "even-3"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s, err := p.Steady(t.Context(), 20, 200*time.Millisecond)
	if err != nil || s.Each != 4 || s.Appends != 12 {
		t.Errorf("%+v, %v", s, err)
	}
	for i, seq := range p.Heads() {
		if seq != 4 {
			t.Errorf("workflow %d got %d events", i, seq)
		}
	}
}
