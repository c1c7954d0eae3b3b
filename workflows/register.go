package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
)

// TaskQueue is where the sample's workers take their work from.
const TaskQueue = "timesheet-reminders"

// Deps is what the activities need of the world.
type Deps struct{}

// Names lists the workflow types that can be started by name.
func Names() []string { return []string{ProgressiveName} }

// Register registers all workflows and activities.
func Register(r worker.Registry, _ Deps) {
	r.RegisterWorkflowWithOptions(ProgressiveWorkflow, workflow.RegisterOptions{Name: ProgressiveName})
	r.RegisterActivity(activities.DoStep)
	r.RegisterActivity(activities.ReportProgress)
}
