package hub

import (
	"sync/atomic"
	"time"
)

// Metrics are the hub's counters. They only rise.
type Metrics struct {
	// Deliveries counts frames handed to sockets.
	Deliveries atomic.Int64
	// Resumes counts viewers that went on from their position without a gap.
	Resumes atomic.Int64
	// Reads counts readings of streams and tags.
	Reads atomic.Int64
	// ReadFailures counts failed readings and subscriptions.
	ReadFailures atomic.Int64
	// BadMessages counts published bytes that were no event.
	BadMessages atomic.Int64
	// InboxDropped counts the times that a topic's inbox was dropped.
	InboxDropped atomic.Int64
	// Compares counts comparisons of all heads with the store.
	Compares atomic.Int64
	// HeadMismatches counts topics that the comparison with the store found
	// behind or on another history.
	HeadMismatches atomic.Int64
	// SocketFull counts the times that somebody had to wait for a socket.
	SocketFull atomic.Int64

	gaps   map[Reason]*atomic.Int64
	closes map[CloseReason]*atomic.Int64
	// onLatency and onEventLatency are those of the options.
	onLatency, onEventLatency func(time.Duration)
}

func newMetrics(onLatency, onEventLatency func(time.Duration)) *Metrics {
	m := &Metrics{
		gaps: make(map[Reason]*atomic.Int64), closes: make(map[CloseReason]*atomic.Int64),
		onLatency: onLatency, onEventLatency: onEventLatency,
	}
	for _, r := range Reasons {
		m.gaps[r] = new(atomic.Int64)
	}
	for _, r := range CloseReasons {
		m.closes[r] = new(atomic.Int64)
	}
	return m
}

func (m *Metrics) gap(r Reason) { m.gaps[r].Add(1) }

// latency takes one message that was written to viewers.
func (m *Metrics) latency(now time.Time, a arrival) {
	if m.onLatency != nil {
		m.onLatency(now.Sub(a.received))
	}
	if m.onEventLatency != nil && !a.made.IsZero() {
		m.onEventLatency(max(now.Sub(a.made), 0)) // clocks differ
	}
}

// Gaps returns how many gap frames were made for a reason.
func (m *Metrics) Gaps(r Reason) int64 { return m.gaps[r].Load() }

// Closes returns how many connections ended for a reason.
func (m *Metrics) Closes(r CloseReason) int64 { return m.closes[r].Load() }
