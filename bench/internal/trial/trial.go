// Package trial is what one process of load does: the settings of a trial,
// and what it found. Both travel as JSON between load and the runner.
package trial

import (
	"time"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/viewers"
)

// Config is one trial: viewers of a server, and phases of events.
type Config struct {
	// Server and Redis are addresses of this machine's loopback.
	Server, Redis string
	// PID is the server's process; 0: its cost is not measured.
	PID       int
	WebSocket bool
	Viewers   int
	// Topics is how many workflows the viewers share evenly.
	Topics int
	// Bare: the server sends no snapshot first, as floor and naive.
	Bare bool
	// Settle is how long the viewers stay idle before memory is read; 0: it
	// is not.
	Settle time.Duration
	// Positions makes all viewers resume at once, from as many positions; 0:
	// they begin as new ones do.
	Positions int
	// Spread is the time within which all viewers connect; 0: as they can.
	Spread time.Duration
	Phases []Phase
	// Grace is how long the last deliveries of a phase may take.
	Grace time.Duration
	// Within bounds the whole.
	Within time.Duration
}

// Phase is a stretch of events at one rate.
type Phase struct {
	// Rate is how many events a second each topic gets.
	Rate float64
	For  time.Duration
}

// Result is what a trial found.
type Result struct {
	WebSocket bool `json:"websocket"`
	Viewers   int  `json:"viewers"`
	Topics    int  `json:"topics"`
	// Attach is from connect to ready, over all viewers; AttachSeconds until
	// all were.
	Attach        latency.Summary `json:"attach"`
	AttachSeconds float64         `json:"attach_seconds"`
	// Memory is zero where it was not measured.
	Memory Memory `json:"memory,omitzero"`
	// Commands are the calls that Redis answered while the viewers attached,
	// by command.
	Commands map[string]int64 `json:"commands,omitempty"`
	// Resumed is what viewers got while they attached.
	Resumed *viewers.Counts `json:"resumed,omitempty"`
	Phases  []PhaseResult   `json:"phases"`
}

// Memory is what of the server is resident, in bytes.
type Memory struct {
	Before int64 `json:"before"`
	After  int64 `json:"after"`
	// PerViewer is the difference by viewers that came between.
	PerViewer float64 `json:"per_viewer"`
}

// PhaseResult is what one phase found.
type PhaseResult struct {
	// Rate is what was asked for, Published what each topic got, Actual the
	// rate at which it got that.
	Rate      float64 `json:"rate"`
	Published int64   `json:"published"`
	Actual    float64 `json:"actual_rate"`
	// Expected is how many deliveries there should be.
	Expected int64 `json:"expected"`
	viewers.Counts
	// Missing were neither delivered nor skipped within the grace.
	Missing int64 `json:"missing"`
	// Seconds is from the first event to the last delivery.
	Seconds float64 `json:"seconds"`
	// The server's time on the CPU, all of it and by delivery.
	CPUSeconds     float64 `json:"cpu_seconds"`
	UserSeconds    float64 `json:"user_seconds"`
	SystemSeconds  float64 `json:"system_seconds"`
	CPUPerDelivery float64 `json:"cpu_us_per_delivery"`
}

// Failures counts what the phase lacks of every event at every viewer, once
// and in order, nobody closed.
func (p *PhaseResult) Failures() int64 {
	return p.Lost + p.Missing + p.Duplicates + p.Gaps + p.Closed
}
