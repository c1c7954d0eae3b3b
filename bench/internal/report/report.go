// Package report holds what a run found, and compares figures: only such of
// one run, since the machine and whatever else it does change in between.
package report

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/runcast/runcast/bench/internal/machine"
)

// ErrOtherRun refuses to compare what different runs found.
var ErrOtherRun = errors.New("figures of different runs are not compared")

// Run is all that one run found.
type Run struct {
	ID      string        `json:"run"`
	Began   time.Time     `json:"began"`
	Seconds float64       `json:"seconds"`
	Quick   bool          `json:"quick"`
	CPU     string        `json:"cpu"`
	Kernel  string        `json:"kernel"`
	Go      string        `json:"go"`
	Cores   machine.Cores `json:"cores"`
	// Load1 is the machine's load average before the run, Busy the share of
	// the run's cores that was used in the second before: what else it did.
	// Stolen is the share that a hypervisor took of them during the run.
	Load1   float64  `json:"load_average"`
	Busy    float64  `json:"busy_before"`
	Stolen  float64  `json:"stolen"`
	Rows    []Row    `json:"rows"`
	Samples []Sample `json:"samples"`
}

// New returns an empty run with an ID of its own.
func New(quick bool) *Run {
	return &Run{ID: rand.Text(), Began: time.Now().UTC(), Quick: quick}
}

// Sample is one measurement as it was made.
type Sample struct {
	Run      string `json:"run"`
	Scenario string `json:"scenario"`
	// Server is floor, naive or subscriber.
	Server string `json:"server"`
	Round  int    `json:"round"`
	// Order counts the samples of the run: which came after which.
	Order int `json:"order"`
	// Error is why there is no result.
	Error  string `json:"error,omitempty"`
	Result any    `json:"result,omitempty"`
}

// Figure is a number and the run that found it.
type Figure struct {
	Run   string
	Value float64
}

// Ratio returns a/b, or refuses to.
func Ratio(a, b Figure) (float64, error) {
	switch {
	case a.Run != b.Run:
		return 0, fmt.Errorf("%w: %s and %s", ErrOtherRun, a.Run, b.Run)
	case b.Value == 0:
		return 0, errors.New("nothing was measured to compare with")
	}
	return a.Value / b.Value, nil
}

// Ratios returns a[i]/b[i] for each pair.
func Ratios(a, b []Figure) ([]float64, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("%d figures cannot be paired with %d", len(a), len(b))
	}
	out := make([]float64, len(a))
	for i := range a {
		r, err := Ratio(a[i], b[i])
		if err != nil {
			return nil, err
		}
		out[i] = r
	}
	return out, nil
}

// Median returns the middle value; of an even number the mean of the two in
// the middle; 0 of none.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Spread says how far values lie apart; nothing of a single one.
func Spread(values []float64) string {
	if len(values) < 2 {
		return ""
	}
	return fmt.Sprintf("%s to %s in %d trials", Number(slices.Min(values)), Number(slices.Max(values)), len(values))
}

// What a machine may do beside a run that is to be trusted.
const (
	maxLoad   = .7
	maxBusy   = .05
	maxStolen = .005
)

// Disturbed says what else the machine did; empty: nothing of weight.
func (r *Run) Disturbed() string {
	var why []string
	if r.Load1 > maxLoad {
		why = append(why, fmt.Sprintf("the load average before the run was %.2f", r.Load1))
	}
	if r.Busy > maxBusy {
		why = append(why, fmt.Sprintf("its cores were %.0f %% busy before", 100*r.Busy))
	}
	if r.Stolen > maxStolen {
		why = append(why, fmt.Sprintf("%.1f %% of their time was stolen", 100*r.Stolen))
	}
	return strings.Join(why, "; ")
}

// MedianOf returns the middle figure's value.
func MedianOf(figures []Figure) float64 {
	values := make([]float64, len(figures))
	for i, f := range figures {
		values[i] = f.Value
	}
	return Median(values)
}

// Write puts the run into a file as JSON.
func (r *Run) Write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o666); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// Read reads runs from files. Several files must be of one run, whose parts
// they then are.
func Read(files ...string) (*Run, error) {
	var all *Run
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		var r Run
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("read results: %s: %w", file, err)
		}
		for _, s := range r.Samples {
			if s.Run != r.ID {
				return nil, fmt.Errorf("%s: %w: %s and %s", file, ErrOtherRun, r.ID, s.Run)
			}
		}
		switch {
		case all == nil:
			all = &r
		case all.ID != r.ID:
			return nil, fmt.Errorf("%s: %w: %s and %s", file, ErrOtherRun, all.ID, r.ID)
		default:
			all.Rows = append(all.Rows, r.Rows...)
			all.Samples = append(all.Samples, r.Samples...)
		}
	}
	if all == nil {
		return nil, errors.New("no file of results was given")
	}
	return all, nil
}
