package activities

import (
	"context"
	"errors"

	"go.temporal.io/sdk/temporal"

	"github.com/runcast/runcast/pkg/progress"
	"github.com/runcast/runcast/pkg/reporter"
)

// ReportProgress writes the run's progress, or that of one of its steps, and
// returns when it is written. It is the durable way for workflow code to
// report; see [reporter.WorkflowReporter.Durable], which calls it by its name.
// Without the reporter on its worker it does nothing.
func ReportProgress(ctx context.Context, p reporter.Progress) error {
	a := reporter.Activity(ctx)
	a.Report(p)
	err := a.Flush(ctx)
	if errors.Is(err, progress.ErrSuperseded) || errors.Is(err, progress.ErrClosed) || errors.Is(err, progress.ErrInvalid) {
		return temporal.NewNonRetryableApplicationError("the report was refused", "ReportRefused", err)
	}
	return err
}
