// Package trial is what one process of load does: the settings of a trial,
// and what it found. Both travel as JSON between load and the runner.
package trial

import (
	"fmt"
	"time"

	"github.com/runcast/runcast/bench/internal/latency"
	"github.com/runcast/runcast/bench/internal/viewers"
)

// Config is one trial: viewers of a server, and phases of events.
type Config struct {
	// Server and Redis are addresses of this machine's loopback.
	Server, Redis string
	// PID is the server's process, RedisPID that of Redis; 0: what it costs is
	// not measured.
	PID, RedisPID int
	WebSocket     bool
	// Mixed: every other viewer has the other transport.
	Mixed bool
	// Secure is how viewers connect, in the clear or over TLS.
	Secure viewers.Secure
	// Latest has viewers ask for the newest state only, and skip the rest.
	Latest  bool
	Viewers int
	// Stuck viewers come beside the others. They take nothing at all.
	Stuck int
	// Topics is how many workflows the viewers share evenly.
	Topics int
	// Bare: the server sends no snapshot first, as floor and naive.
	Bare bool
	// Settle is how long the viewers stay idle before memory is read; 0: it
	// is not.
	Settle time.Duration
	// Positions makes all viewers resume at once, from as many positions, in
	// no order; 0: they begin as new ones do. When all are there they are cut
	// off and resume once more, on the node that now knows the topic.
	Positions int
	// During is how many events a second are written while viewers resume.
	During float64
	// Spread is the time within which all viewers connect; 0: as they can.
	Spread time.Duration
	Phases []Phase
	// Listen names a workflow that others write to, in place of topics and
	// phases. The trial ends with its input.
	Listen string
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
	// Attach is how viewers came; Again how they came back after they were
	// cut off, nil where they were not.
	Attach Attach  `json:"attach"`
	Again  *Attach `json:"again,omitempty"`
	// Memory is zero where it was not measured.
	Memory Memory        `json:"memory,omitzero"`
	Phases []PhaseResult `json:"phases"`
	// Server is what the subscriber says of itself; the runner fills it in.
	Server map[string]float64 `json:"server,omitempty"`
}

// Attach is what it took to attach all viewers.
type Attach struct {
	// Wait is from connect to ready, over all viewers, First to the first
	// frame; Seconds until all were ready.
	Wait    latency.Summary `json:"wait"`
	First   latency.Summary `json:"first"`
	Seconds float64         `json:"seconds"`
	// Commands are the calls that Redis answered meanwhile, by command,
	// without those that the events took. Of resuming viewers only.
	Commands map[string]int64 `json:"commands,omitempty"`
	// Published events were written meanwhile; Expected deliveries were owed
	// to resuming viewers, these and the events of the past.
	Published int64 `json:"published"`
	Expected  int64 `json:"expected"`
	// Seen is what resuming viewers got, until all was there.
	Seen *viewers.Counts `json:"seen,omitempty"`
	// Busy says how busy the cores were meanwhile. Of resuming viewers only.
	Busy string `json:"busy,omitempty"`
}

// Failures counts what resuming viewers lack of every event since their
// position, once and in order.
func (a *Attach) Failures() int64 {
	if a == nil || a.Seen == nil {
		return 0
	}
	c := a.Seen
	return max(a.Expected-c.Delivered-c.Lost, c.Delivered+c.Lost-a.Expected) + c.Lost + c.Duplicates + c.Gaps + c.Closed
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
	// PerAppend is how many events went in one call: more than one when the
	// writer was late, by LatestMS at most.
	PerAppend float64 `json:"events_per_append"`
	LatestMS  float64 `json:"latest_append_ms"`
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
	// What shared the other core.
	LoadCPUSeconds  float64 `json:"load_cpu_seconds"`
	RedisCPUSeconds float64 `json:"redis_cpu_seconds"`
}

// Failures counts what the phase lacks of every event at every viewer, once
// and in order, nobody closed.
func (p *PhaseResult) Failures() int64 {
	return p.Lost + p.Missing + p.Duplicates + p.Gaps + p.Closed
}

// saturated is the share of a core beyond which it is what the phase lacked.
const saturated = .95

// Saturated says which core had nothing left, and how busy each was.
func (p *PhaseResult) Saturated() string {
	if p.Seconds == 0 {
		return "nothing was measured"
	}
	return busy(p.CPUSeconds/p.Seconds, p.LoadCPUSeconds/p.Seconds, p.RedisCPUSeconds/p.Seconds)
}

func busy(server, load, redis float64) string {
	which := "neither core"
	switch s, l := server >= saturated, load+redis >= saturated; {
	case s && l:
		which = "both cores"
	case s:
		which = "the server's core"
	case l:
		which = "the core of load and Redis"
	}
	return fmt.Sprintf("%s saturated: server %.0f %%, load %.0f %% + Redis %.0f %%", which, 100*server, 100*load, 100*redis)
}
