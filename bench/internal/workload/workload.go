// Package workload is the run that is followed when strategies are compared:
// changes at irregular times that every strategy can see, the same for all.
package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/pkg/reporter"
)

// Name is the workflow's type.
const Name = "CompareWorkflow"

// Input says when a run changes.
type Input struct {
	// Begin is when the first change may be: viewers are there by then.
	Begin time.Time `json:"begin"`
	// Changes are made within Over from Begin, the last one right at its end.
	Changes int           `json:"changes"`
	Over    time.Duration `json:"over"`
	// Seed makes the times: the same ones for the same seed.
	Seed uint64 `json:"seed"`
}

// Result is what a run did.
type Result struct {
	// Changes are the times of its changes, by its own clock.
	Changes []time.Time `json:"changes"`
}

// Times returns when the changes are due, from Begin on, in order.
func (in Input) Times() []time.Duration {
	r := rand.New(rand.NewPCG(in.Seed, uint64(in.Changes)))
	times := make([]time.Duration, in.Changes)
	for i := range times {
		times[i] = time.Duration(r.Int64N(int64(in.Over)))
	}
	slices.Sort(times)
	if n := len(times); n > 0 {
		times[n-1] = in.Over
	}
	return times
}

// tail is how long a run goes on behind its last change, so that this one can
// be seen for itself.
const tail = 700 * time.Millisecond

// Workflow makes the changes from workflow code.
func Workflow(ctx workflow.Context, in Input) (Result, error) {
	var r Result
	for i, at := range in.Times() {
		// Always a timer, so that each change has a workflow task of its own,
		// however late the run is.
		if err := workflow.Sleep(ctx, max(in.Begin.Add(at).Sub(workflow.Now(ctx)), time.Millisecond)); err != nil {
			return r, err
		}
		r.Changes = append(r.Changes, workflow.Now(ctx))
		reporter.Workflow(ctx).Percent(percent(i+1, in.Changes))
	}
	return r, workflow.Sleep(ctx, tail)
}

// percent tells the change by its number.
func percent(n, of int) float64 { return 100 * float64(n) / float64(of) }

// Change returns the number of the change, of so many, that a state carries by
// its percentage, from 1; 0 if it carries none.
func Change(percent *float64, of int) int {
	if percent == nil {
		return 0
	}
	return min(int(math.Round(*percent*float64(of)/100)), of)
}

// Check refuses what cannot be a workload.
func (in Input) Check() error {
	if in.Changes < 1 || in.Changes > 1000 || in.Over < time.Second || in.Over > time.Minute {
		return fmt.Errorf("%d changes in %s: there must be 1 to 1,000 in 1 s to 1 min", in.Changes, in.Over)
	}
	return nil
}
