// Package choice says by which strategy a viewer follows a workflow: one for
// each workflow type, or several, by percentages of the viewers, so that they
// can be compared.
package choice

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
	"maps"
	"slices"
)

// Rules choose. The zero value chooses "".
type Rules struct {
	// other is for the types that have no rule of their own.
	other rule
	types map[string]rule
}

// rule is what one workflow type has: arms in the order of their names, whose
// shares add up to 100.
type rule []arm

type arm struct {
	strategy string
	share    int
}

// Fixed returns rules that choose one strategy for all.
func Fixed(strategy string) *Rules { return &Rules{other: rule{{strategy, 100}}} }

// Pick returns the strategy by which a viewer follows workflows of a type. The
// same viewer gets the same one for the same type as long as the rule is the
// same; where it changes, most keep theirs.
func (r *Rules) Pick(workflowType, viewer string) string {
	at := place(workflowType, viewer)
	for _, a := range r.of(workflowType) {
		if at < a.share {
			return a.strategy
		}
		at -= a.share
	}
	return ""
}

// Split reports whether the viewers of some workflow type get different
// strategies: then it counts who asks.
func (r *Rules) Split(workflowType string) bool {
	n := 0
	for _, a := range r.of(workflowType) {
		if a.share > 0 {
			n++
		}
	}
	return n > 1
}

// of returns the rule for a type.
func (r *Rules) of(workflowType string) rule {
	if own, ok := r.types[workflowType]; ok {
		return own
	}
	return r.other
}

// Types returns the workflow types that have a rule of their own, sorted.
func (r *Rules) Types() []string { return slices.Sorted(maps.Keys(r.types)) }

// place returns where the viewer stands among the viewers of the type, 0 to
// 99. Each type has an order of its own, so that not the same viewers are in
// every trial.
func place(workflowType, viewer string) int {
	h := sha256.New()
	// Neither name may run into the other.
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(workflowType)))
	h.Write(n[:])
	io.WriteString(h, workflowType)
	io.WriteString(h, viewer)
	return int(binary.BigEndian.Uint64(h.Sum(nil)) % 100)
}
