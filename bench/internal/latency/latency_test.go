package latency

import (
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var h Histogram
	for i := range 10_000 {
		h.Add(time.Duration(i+1) * 10 * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{.5: 50 * time.Millisecond, .99: 99 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := h.Quantile(q); got < want*98/100 || got > want*102/100 {
			t.Errorf("quantile %v is %s, want about %s", q, got, want)
		}
	}
	if s := h.Summary(); s.Count != 10_000 || s.Max != 100 {
		t.Errorf("%+v", s)
	}
}

func TestEveryValueHasItsPlace(t *testing.T) {
	last := -1
	for us := uint64(0); us < 1<<20; us++ {
		i := index(us)
		if i != last && i != last+1 {
			t.Fatalf("%d µs goes to %d after %d", us, i, last)
		}
		if up := upper(i); up < us || float64(up) > float64(us)*1.02+1 {
			t.Fatalf("%d µs is taken for %d µs", us, up)
		}
		last = i
	}
	if index(1<<63) != powers*steps-1 {
		t.Error("what is too long has no place")
	}
}
