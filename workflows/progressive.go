package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/pkg/handlers"
)

// ProgressiveName is the workflow type of [ProgressiveWorkflow].
const ProgressiveName = "ProgressiveWorkflow"

// ProgressiveInput says how [ProgressiveWorkflow] goes on.
type ProgressiveInput struct {
	// Steps is how many steps there are, 1 to 100; 0 means 10.
	Steps int `json:"steps,omitempty"`
	// StepMS is how long each takes, in milliseconds, up to an hour; 0 means
	// 1,000.
	StepMS int `json:"step_ms,omitempty"`
	// FailAt is the step that fails for good; 0: none.
	FailAt int `json:"fail_at,omitempty"`
	// Output makes the steps stream pieces of text.
	Output bool `json:"output,omitempty"`
	// ContinueAt is the step before which the run continues as new, once; 0:
	// it does not. The first step has nothing before it to continue from.
	ContinueAt int `json:"continue_at,omitempty"`
	// Done is how many steps were done by the runs before; the workflow sets
	// it itself.
	Done int `json:"done,omitempty"`
}

// ProgressiveResult is what [ProgressiveWorkflow] returns.
type ProgressiveResult struct {
	Steps int `json:"steps"`
}

// InvalidInput is the type of the error, not to be retried, that refuses an
// input.
const InvalidInput = "InvalidInput"

const (
	maxSteps  = 100
	maxStepMS = int(time.Hour / time.Millisecond)
)

// WithDefaults returns the input with its defaults, or an error, not to be
// retried, that says why it is refused.
func (in ProgressiveInput) WithDefaults() (ProgressiveInput, error) {
	if in.Steps == 0 {
		in.Steps = 10
	}
	if in.StepMS == 0 {
		in.StepMS = 1000
	}
	refuse := func(format string, args ...any) (ProgressiveInput, error) {
		return in, temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), InvalidInput, nil)
	}
	switch {
	case in.Steps < 1 || in.Steps > maxSteps:
		return refuse("steps is %d; it must be from 1 to %d", in.Steps, maxSteps)
	case in.StepMS < 0 || in.StepMS > maxStepMS:
		return refuse("step_ms is %d; it must be from 0 to %d", in.StepMS, maxStepMS)
	case in.FailAt < 0 || in.FailAt > in.Steps:
		return refuse("fail_at is %d; it must be from 0 to steps, which is %d", in.FailAt, in.Steps)
	case in.ContinueAt < 0 || in.ContinueAt > in.Steps || in.ContinueAt == 1:
		return refuse("continue_at is %d; it must be 0, or from 2 to steps, which is %d", in.ContinueAt, in.Steps)
	case in.Done < 0 || in.Done >= in.Steps:
		return refuse("done is %d; it must be from 0 to steps - 1, which is %d", in.Done, in.Steps-1)
	}
	return in, nil
}

// ProgressiveWorkflow does its steps one after the other. It knows nothing of
// reporting: the plugin shows its run and activities, and the activities say
// how far they are.
func ProgressiveWorkflow(ctx workflow.Context, in ProgressiveInput) (ProgressiveResult, error) {
	in, err := in.WithDefaults()
	if err != nil {
		return ProgressiveResult{}, err
	}
	for step := in.Done + 1; step <= in.Steps; step++ {
		// Where many follow the run it may be advised to: what they wait for,
		// and what they are told, is kept in its history.
		if (step == in.ContinueAt || handlers.ContinueAsNewAdvised(ctx)) && in.Done < step-1 {
			in.Done = step - 1
			return ProgressiveResult{}, workflow.NewContinueAsNewError(ctx, ProgressiveName, in)
		}
		took := time.Duration(in.StepMS) * time.Millisecond
		ctx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			Summary:             fmt.Sprintf("Step %d", step),
			StartToCloseTimeout: 2*took + time.Minute,
			HeartbeatTimeout:    took + 10*time.Second,
			RetryPolicy:         &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, MaximumInterval: 10 * time.Second},
		})
		err := workflow.ExecuteActivity(ctx, activities.DoStep, activities.StepInput{
			Step: step, Steps: in.Steps, StepMS: in.StepMS, Fail: step == in.FailAt, Output: in.Output,
		}).Get(ctx, nil)
		if err != nil {
			return ProgressiveResult{}, err // its message names the step
		}
	}
	return ProgressiveResult{Steps: in.Steps}, nil
}
