package report

import (
	"fmt"
	"io"
	"strings"
)

// Markdown prints what the budget is about, with the machine and the method,
// and nothing that differs between two runs with the same figures.
func (r *Run) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| what | floor | subscriber | found | budget | |\n|---|--:|--:|--:|--:|---|\n")
	escape := strings.NewReplacer("|", `\|`, "\n", " ").Replace
	whole := 0
	for _, row := range r.Rows {
		switch c := row.Check; {
		case c == nil:
			continue
		case c.Limit == 0 && c.Met():
			whole++
			continue
		}
		found, budget, verdict := row.Check.texts()
		if budget = strings.NewReplacer("<=", "≤", ">=", "≥").Replace(budget); verdict == "NOT MET" {
			verdict = "**not met**"
		}
		if below, ok := strings.CutPrefix(row.What, "  "); ok {
			row.What = "– " + below
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", escape(row.What),
			withUnit(row.Floor, row.Unit), withUnit(row.Subscriber, row.Unit), escape(found), escape(budget), verdict)
	}
	form := "Full form"
	if r.Quick {
		form = "Quick form, in which times are not judged"
	}
	fmt.Fprintf(&b, "\n%s, Linux %s, %s. %s: server on one core, load and Redis on another, all on the loopback of one machine; "+
		"servers that are compared take turns, the median of the rounds counts.", r.CPU, r.Kernel, r.Go, form)
	if whole > 0 {
		b.WriteString(" Where nothing else is said, no event was lost, late or doubled, and nobody was closed.")
	}
	if why := r.Disturbed(); why != "" {
		fmt.Fprintf(&b, " The machine was disturbed: %s.", why)
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func withUnit(v *float64, unit string) string {
	if v == nil {
		return ""
	}
	return strings.TrimSpace(Number(*v) + " " + unit)
}
