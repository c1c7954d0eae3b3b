package workflows

import (
	"maps"
	"slices"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/runcast/runcast/activities"
	"github.com/runcast/runcast/pkg/message"
)

// TaskQueue is where the sample's workers take their work from.
const TaskQueue = "timesheet-reminders"

// Deps is what the activities need of the world.
type Deps struct {
	// Messaging is the messaging application's; nil leaves it out.
	Messaging *activities.Messaging
}

// Names lists the workflow types that can be started by name. Those of the
// messaging application are started by its own routes only, which check who
// asks.
func Names() []string { return []string{ProgressiveName} }

// Types lists all workflow types, sorted, for those who follow them.
func Types() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(messagingWorkflows)), ProgressiveName)))
}

// Register registers all workflows and activities.
func Register(r worker.Registry, d Deps) {
	r.RegisterWorkflowWithOptions(ProgressiveWorkflow, workflow.RegisterOptions{Name: ProgressiveName})
	r.RegisterActivity(activities.DoStep)
	r.RegisterActivity(activities.ReportProgress)
	if d.Messaging == nil {
		return
	}
	for name, w := range messagingWorkflows {
		r.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
	}
	r.RegisterActivity(d.Messaging)
}

// messagingWorkflows are the messaging application's, by type.
var messagingWorkflows = map[string]any{
	message.ConversationWorkflow: MultiAgentConversationWorkflow,
	message.ReminderWorkflow:     TimesheetReminderWorkflow,
	message.DailyWorkflow:        DailyReminderScheduleWorkflow,
	RemindMeName:                 RemindMeWorkflow,
}
