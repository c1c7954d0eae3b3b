package activities

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/reporter"
)

// StepInput is one step of ProgressiveWorkflow.
type StepInput struct {
	// Step counts from 1 to Steps.
	Step  int `json:"step"`
	Steps int `json:"steps"`
	// StepMS is how long the step takes, in milliseconds.
	StepMS int `json:"step_ms"`
	// Fail makes the step fail for good, halfway.
	Fail bool `json:"fail,omitempty"`
	// Output makes the step stream pieces of text.
	Output bool `json:"output,omitempty"`
}

// StepFailed is the type of the error with which a step fails for good.
const StepFailed = "StepFailed"

// ticks is how many parts a step's time has, after each of which it reports.
const ticks = 4

// DoStep does the work of one step: it takes its time, and says how far it
// is. When it is done, so is its share of the run.
func DoStep(ctx context.Context, in StepInput) error {
	p := reporter.Activity(ctx)
	own := p.Step("")
	p.Count(int64(in.Step-1), int64(in.Steps))
	p.Message(fmt.Sprintf("step %d of %d", in.Step, in.Steps))
	words := strings.SplitAfter(fmt.Sprintf("Step %d of %d is under way, and its text comes piece by piece. ", in.Step, in.Steps), " ")
	for tick := range ticks {
		if in.Fail && tick == ticks/2 {
			return temporal.NewNonRetryableApplicationError(fmt.Sprintf("step %d failed, as asked", in.Step), StepFailed, nil)
		}
		if in.Output {
			for _, word := range words[tick*len(words)/ticks : (tick+1)*len(words)/ticks] {
				p.Output(word)
			}
		}
		if err := wait(ctx, time.Duration(in.StepMS)*time.Millisecond/ticks); err != nil {
			return err
		}
		done := float64(tick+1) / ticks
		own.Percent(100 * done)
		p.Percent(100 * (float64(in.Step-1) + done) / float64(in.Steps))
		activity.RecordHeartbeat(ctx, tick)
	}
	p.Count(int64(in.Step), int64(in.Steps))
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
