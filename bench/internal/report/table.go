package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Row is one line of the table.
type Row struct {
	Scenario string `json:"scenario"`
	What     string `json:"what"`
	// Unit is that of the three columns, which are nil where not measured.
	Unit       string   `json:"unit,omitempty"`
	Floor      *float64 `json:"floor,omitempty"`
	Naive      *float64 `json:"naive,omitempty"`
	Subscriber *float64 `json:"subscriber,omitempty"`
	// Check is what the budget says of it; nil: nothing.
	Check *Check `json:"check,omitempty"`
	// Note is what else is to be known.
	Note string `json:"note,omitempty"`
}

// Check compares a value with its budget.
type Check struct {
	// Value is compared with Limit: it must be at most that, or AtLeast.
	Value   float64 `json:"value"`
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least,omitempty"`
	Unit    string  `json:"unit"`
	// Skipped: the run was too short to judge it.
	Skipped bool `json:"skipped,omitempty"`
}

// Met reports whether the value is within the budget.
func (c *Check) Met() bool {
	if math.IsNaN(c.Value) {
		return false
	}
	if c.AtLeast {
		return c.Value >= c.Limit
	}
	return c.Value <= c.Limit
}

// texts returns what was found, the budget, and what it comes to.
func (c *Check) texts() (found, budget, verdict string) {
	sign := "<= "
	if c.AtLeast {
		sign = ">= "
	}
	switch {
	case c.Skipped:
		verdict = "not judged"
	case c.Met():
		verdict = "met"
	default:
		verdict = "NOT MET"
	}
	return strings.TrimSpace(Number(c.Value) + " " + c.Unit), strings.TrimSpace(sign + Number(c.Limit) + " " + c.Unit), verdict
}

// Missed returns how many checks are not met.
func (r *Run) Missed() (missed int) {
	for _, row := range r.Rows {
		if c := row.Check; c != nil && !c.Skipped && !c.Met() {
			missed++
		}
	}
	return missed
}

// Value makes a cell of the table.
func Value(v float64) *float64 { return &v }

// Table prints the run.
func (r *Run) Table(w io.Writer) error {
	form := "full"
	if r.Quick {
		form = "quick: a smoke test, times are not judged"
	}
	lines := [][]string{{"scenario", "what", "floor", "naive", "subscriber", "unit", "found", "budget", ""}}
	for _, row := range r.Rows {
		line := []string{row.Scenario, row.What, cell(row.Floor), cell(row.Naive), cell(row.Subscriber), row.Unit, "", "", ""}
		if c := row.Check; c != nil {
			line[6], line[7], line[8] = c.texts()
		}
		if row.Note != "" {
			line[8] = strings.TrimSpace(line[8] + "  " + row.Note)
		}
		lines = append(lines, line)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "run %s, %s (%s)\n%s, Linux %s, %s; server on core %d, load and Redis on core %d; load average %.2f before; took %.0f s\n\n",
		r.ID, r.Began.Format("2006-01-02 15:04:05 MST"), form, r.CPU, r.Kernel, r.Go, r.Cores.Server, r.Cores.Load, r.Load1, r.Seconds)
	if why := r.Disturbed(); why != "" {
		fmt.Fprintf(&b, "DISTURBED: %s. Something else uses this machine; do not trust times.\n\n", why)
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], len([]rune(text)))
		}
	}
	for _, line := range lines {
		for i, text := range line {
			pad := strings.Repeat(" ", widths[i]-len([]rune(text)))
			switch {
			case i == len(line)-1:
				b.WriteString(text)
			case i >= 2 && i <= 4 || i == 6 || i == 7:
				b.WriteString(pad + text + "  ")
			default:
				b.WriteString(text + pad + "  ")
			}
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(v *float64) string {
	if v == nil {
		return ""
	}
	return Number(*v)
}

// Number prints three digits that count.
func Number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "none"
	case a >= 100 || v == math.Trunc(v):
		return thousands(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
