// Package latency keeps many durations in little memory.
package latency

import (
	"math/bits"
	"time"
)

// Each power of two is split into steps, so that a value is known to within
// two per cent.
const (
	stepBits = 6
	steps    = 1 << stepBits
	powers   = 36 // up to 19 hours
)

// Histogram counts durations by microsecond, within two per cent. The zero
// value is empty. It is not safe for use by many goroutines.
type Histogram struct {
	counts [powers * steps]int64
	total  int64
	max    time.Duration
}

func index(us uint64) int {
	if us < steps {
		return int(us)
	}
	shift := bits.Len64(us) - stepBits - 1
	return min((shift+1)<<stepBits+int(us>>shift)-steps, powers*steps-1)
}

// upper returns the largest number of microseconds that index puts there.
func upper(i int) uint64 {
	if i < steps {
		return uint64(i)
	}
	shift := i>>stepBits - 1
	return uint64(i&(steps-1)+steps+1)<<shift - 1
}

// Add counts d; a negative one counts as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[index(uint64(d/time.Microsecond))]++
	h.total++
	h.max = max(h.max, d)
}

// Count returns how many durations there are.
func (h *Histogram) Count() int64 { return h.total }

// Quantile returns a duration that the share q of all is at most; 0 if there
// is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	want := max(int64(q*float64(h.total)+0.5), 1)
	var seen int64
	for i, n := range h.counts {
		if seen += n; seen >= want {
			return min(time.Duration(upper(i))*time.Microsecond, h.max)
		}
	}
	return h.max
}

// Summary is what is reported of a histogram, in milliseconds.
type Summary struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

// Summary returns the usual figures.
func (h *Histogram) Summary() Summary {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Summary{Count: h.total, P50: ms(h.Quantile(.5)), P99: ms(h.Quantile(.99)), Max: ms(h.max)}
}
